import type { StackOptions } from "../providers/ec2/infrastructure/template.ts";

export interface SnippetParts {
  readonly name: string;
  readonly region: string;
  readonly options: StackOptions;
  readonly outputs: Readonly<Record<string, string>>;
}

/** What a stack is used by: lines for mayfly.yaml, and what a person does next. */
export function snippet({ name, region, options, outputs }: SnippetParts): {
  readonly config: string;
  readonly steps: readonly string[];
} {
  const of = (key: string): string => outputs[key] ?? "";
  const hasKey = options.manager === "user";
  const key = "{ id: file:aws-key-id, secret: file:aws-key }";
  const lines = [
    "providers:",
    "  aws:",
    "    ec2:",
    `      region: ${region}`,
    `      subnets: [${of("Subnets").split(",").join(", ")}]`,
    `      securityGroups: [${of("SecurityGroup")}]`,
    ...(options.parameter
      ? ["      claimBy: parameter", `      instanceProfile: ${of("MachineProfile")}`]
      : []),
    ...(hasKey ? [`      accessKey: ${key}`] : []),
    ...(options.front === null
      ? []
      : ["front:", `  queue: ${of("FrontQueue")}`, ...(hasKey ? [`  accessKey: ${key}`] : [])]),
  ];
  return {
    config: `${lines.join("\n")}\n`,
    steps: stepsOf(options, of, `--region ${region} --name ${name}`),
  };
}

function stepsOf(
  options: StackOptions,
  of: (key: string) => string,
  which: string,
): readonly string[] {
  const byManager: Readonly<Record<StackOptions["manager"], string>> = {
    user: `Make its key, and put the two parts into files aws-key-id and aws-key beside mayfly.yaml: aws iam create-access-key --user-name ${of("ManagerUser")}`,
    role: `Give the host that Mayfly runs on the instance profile ${of("ManagerProfile")}.`,
    none: `Attach the policy ${of("ManagerPolicy")} to what Mayfly runs as.`,
  };
  const front =
    options.front === null
      ? []
      : [
          `Send a forge's webhooks to ${of("FrontUrl")}v1/forges/NAME/events, NAME as under forges.`,
        ];
  const narrow =
    options.installation === null
      ? [
          `After the first machine: mayfly aws up ${which} --installation WORD, the first word of its name, lets Mayfly end no other's.`,
        ]
      : [];
  return [byManager[options.manager], ...front, "Try it: mayfly doctor", ...narrow];
}
