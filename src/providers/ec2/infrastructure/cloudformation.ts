/*
 * The little of CloudFormation's language that our template is written in. A value is what AWS knows
 * only when it makes the stack; everything is plain JSON.
 */

/** A text, or what stands for one until the stack is made. */
export type Value =
  | string
  | { readonly Ref: string }
  | { readonly "Fn::GetAtt": readonly [string, string] }
  | { readonly "Fn::Sub": string }
  | { readonly "Fn::Join": readonly [string, readonly Value[]] }
  | { readonly "Fn::Select": readonly [number, { readonly "Fn::GetAZs": "" }] };

export type Json =
  string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

export interface Resource {
  readonly Type: `AWS::${string}::${string}`;
  readonly DependsOn?: string;
  readonly DeletionPolicy?: "Delete";
  readonly UpdateReplacePolicy?: "Delete";
  readonly Properties: { readonly [key: string]: Json };
}

export interface Output {
  readonly Description: string;
  readonly Value: Value;
}

export type Resources = Record<string, Resource>;
export type Outputs = Record<string, Output>;

export interface Template {
  readonly AWSTemplateFormatVersion: "2010-09-09";
  readonly Description: string;
  readonly Metadata: { readonly [key: string]: Json };
  readonly Resources: Readonly<Record<string, Resource>>;
  readonly Outputs: Readonly<Record<string, Output>>;
}

export interface Statement {
  readonly Effect: "Allow";
  readonly Action: string | readonly string[];
  readonly Resource?: Value | readonly Value[];
  readonly Principal?: { readonly Service: string };
  readonly Condition?: Conditions;
}

/** Operator, key, value: `{ StringEquals: { "ec2:CreateAction": "RunInstances" } }`. */
export type Conditions = Readonly<
  Record<string, Readonly<Record<string, string | readonly string[]>>>
>;

export const ref = (name: string): Value => ({ Ref: name });
export const attribute = (name: string, of: string): Value => ({ "Fn::GetAtt": [name, of] });
/** `${Name}` in it stands for a resource, `${AWS::Region}` for where the stack is. */
export const sub = (text: string): Value => ({ "Fn::Sub": text });
export const joined = (values: readonly Value[]): Value => ({ "Fn::Join": [",", values] });
/** The region's nth zone, counted from 0. */
export const zone = (n: number): Value => ({ "Fn::Select": [n, { "Fn::GetAZs": "" }] });

/** What is in a stack bears its name; the stack's own tags are given to it beside. */
export const ours: Json = [{ Key: "Name", Value: sub("${AWS::StackName}") }];

export function policy(statements: readonly Statement[]) {
  return { Version: "2012-10-17", Statement: statements } as unknown as Json;
}

/** Who may take a role on: a service of AWS's. */
export function trusts(service: string): Json {
  return policy([{ Effect: "Allow", Principal: { Service: service }, Action: "sts:AssumeRole" }]);
}
