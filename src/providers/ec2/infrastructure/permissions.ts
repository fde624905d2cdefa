import { tags } from "../instances.ts";
import { sub, type Conditions, type Statement, type Value } from "./cloudformation.ts";

/*
 * Every call that Mayfly makes of AWS, why, and what of it may be done: the one source of the
 * policies in the template and of the tables in the manual. The lists themselves stand beside this.
 */

/** What a stack is made of, in the words that a policy is limited by. */
export interface Scope {
  /** Null: any installation's machines. */
  readonly installation: string | null;
  readonly subnets: readonly Value[];
  readonly securityGroup: Value;
  /** The role of machines that take their claim from a parameter; null: machines have none. */
  readonly machineRole: Value | null;
  readonly queue: Value | null;
}

/** When it is wanted: always, or only with an option. */
export type Need = "always" | "parameter" | "front";

export interface Grant {
  readonly resource: readonly Value[];
  readonly condition?: Conditions;
}

export interface Permission {
  readonly action: string;
  readonly why: string;
  /** Its limits, in words. */
  readonly limit: string;
  readonly need: Need;
  /** `call`: Mayfly makes it. `implied`: AWS asks for it when another call is made. */
  readonly kind: "call" | "implied";
  grants(scope: Scope): readonly Grant[];
}

/** What some account's lists show: no policy can limit that. */
export const anywhere = (): readonly Grant[] => [{ resource: ["*"] }];
export const noLimit = "cannot be limited";

export const requestTag = `aws:RequestTag/${tags.installation}`;
export const resourceTag = `aws:ResourceTag/${tags.installation}`;

/** That a tag is there, whatever it says. */
export const bearing = (key: string): Conditions => ({ StringLike: { [key]: "?*" } });

/** All below one name for one installation; what comes first in a path is the installation. */
export function secrets({ installation }: Pick<Scope, "installation">): readonly Value[] {
  const path = `parameter/mayfly/${installation ?? "*"}/*`;
  return [sub(`arn:\${AWS::Partition}:ssm:\${AWS::Region}:\${AWS::AccountId}:${path}`)];
}

/** What a machine's own role may, where its claim is a parameter. */
export function machineStatements(scope: Pick<Scope, "installation">): readonly Statement[] {
  return [
    {
      Effect: "Allow",
      Action: ["ssm:GetParameter", "ssm:DeleteParameter"],
      Resource: secrets(scope),
      // For an instance `aws:userid` ends in its own id, and the parameter bears the id of its reader.
      Condition: { StringLike: { "aws:userid": "*:${aws:ResourceTag/InstanceId}" } },
    },
  ];
}

/** The statements of a policy that grants these permissions, those alike in one. */
export function statementsOf(
  permissions: readonly Permission[],
  scope: Scope,
): readonly Statement[] {
  const byGrant = new Map<string, { grant: Grant; actions: string[] }>();
  for (const permission of permissions) {
    for (const grant of permission.grants(scope)) {
      const key = JSON.stringify(grant);
      const known = byGrant.get(key) ?? { grant, actions: [] };
      known.actions.push(permission.action);
      byGrant.set(key, known);
    }
  }
  return [...byGrant.values()].map(({ grant: { resource, condition }, actions }) => ({
    Effect: "Allow",
    Action: actions,
    Resource: resource,
    ...(condition === undefined ? {} : { Condition: condition }),
  }));
}

/** The manual's table. */
export function permissionTable(permissions: readonly Permission[]): string {
  const words: Readonly<Record<Need, string>> = {
    always: "",
    parameter: "only with `claimBy: parameter`: ",
    front: "only with the front: ",
  };
  const rows = permissions.map(
    ({ action, why, limit, need }) => `| \`${action}\` | ${words[need]}${why} | ${limit} |`,
  );
  return ["| permission | why | limited to |", "| --- | --- | --- |", ...rows].join("\n");
}
