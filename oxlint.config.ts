import { defineConfig, type OxlintOverride } from "oxlint";

/*
 * The import arrows: what each folder of src may import beside itself, as paths below src.
 * ARCHITECTURE.md tells why; test/arrows.test.ts refuses a folder that is missing here.
 */
const arrows: Readonly<Record<string, readonly string[]>> = {
  domain: [],
  store: ["domain/**"],
  forges: ["domain/**"],
  providers: ["domain/**"],
  guest: ["domain/**"],
  config: [
    "domain/**",
    "forges/forge.ts",
    "forges/registry.ts",
    "providers/provider.ts",
    "providers/registry.ts",
  ],
  fleet: ["domain/**", "store/**", "guest/**", "forges/forge.ts", "providers/provider.ts"],
  executor: ["domain/**", "providers/**", "guest/**"],
  replay: ["domain/**", "providers/**", "guest/**"],
  broker: ["domain/**", "store/**", "forges/**", "fleet/**"],
  bridge: ["domain/**", "store/**", "forges/**", "fleet/**"],
  storage: ["domain/**", "store/**", "forges/**", "fleet/**"],
  sim: ["domain/**", "store/**", "fleet/**", "forges/forge.ts", "providers/provider.ts"],
};
/** These may import every folder but the command line; it may import all. */
const upper = ["web"];

function refuse(file: string, group: string[], message: string): OxlintOverride {
  const rules = { "no-restricted-imports": ["error", { patterns: [{ group, message }] }] };
  return { files: [file], rules: rules as NonNullable<OxlintOverride["rules"]> };
}

function arrowsOf(folder: string): OxlintOverride[] {
  const allowed = arrows[folder] ?? [];
  const message = `src/${folder} may import ${allowed.join(", ") || "nothing else of ours"}.`;
  const io = folder === "domain" ? ["node:*", "!node:util", "!node:crypto"] : [];
  const groups = ["**/../**", ...io, ...allowed.map((path) => `!**/../${path}`)];
  return [
    refuse(`src/${folder}/*`, groups, message),
    // From a folder below, one step up is still at home.
    refuse(`src/${folder}/*/**`, [...groups, "!../*.ts", "!../[a-z]*/**"], message),
  ];
}

/** Forges, and providers, share the files beside their folders but never import each other. */
function siblingsOf(folder: string): OxlintOverride[] {
  const groups = ["**/../**", "!**/../domain/**", "!**/../*.ts", "**/../registry.ts"];
  const message = `src/${folder}/<name> may import domain/** and ${folder}/*.ts, never a sibling.`;
  return [
    refuse(`src/${folder}/*/*`, groups, message),
    refuse(`src/${folder}/*/*/**`, [...groups, "!../[a-z]*/**"], message),
  ];
}

export default defineConfig({
  plugins: ["typescript", "unicorn", "oxc", "import", "promise", "node"],
  categories: { correctness: "error", suspicious: "error" },
  options: { typeAware: true, reportUnusedDisableDirectives: "error", denyWarnings: true },
  env: { node: true, es2024: true },
  ignorePatterns: ["dist/"],
  rules: {
    eqeqeq: ["error", "always", { null: "ignore" }],
    "import/no-cycle": "error",
    "no-var": "error",
    "prefer-const": "error",
    "typescript/consistent-type-imports": "error",
    "typescript/no-explicit-any": "error",
    "typescript/no-floating-promises": [
      "error",
      {
        allowForKnownSafeCalls: [
          { from: "package", package: "node:test", name: ["test", "describe", "it", "suite"] },
        ],
      },
    ],
    "typescript/no-misused-promises": "error",
    "typescript/no-unsafe-argument": "error",
    "typescript/no-unsafe-assignment": "error",
    "typescript/no-unsafe-call": "error",
    "typescript/no-unsafe-member-access": "error",
    "typescript/no-unsafe-return": "error",
    "typescript/only-throw-error": "error",
    "typescript/prefer-readonly": "error",
    "typescript/return-await": "error",
    "typescript/switch-exhaustiveness-check": [
      "error",
      { considerDefaultExhaustiveForUnions: true },
    ],
    "unicorn/prefer-node-protocol": "error",
    // The compiler sees missing returns and changes to read-only arrays better than these.
    "consistent-return": "off",
    "typescript/consistent-return": "off",
    "unicorn/no-array-reverse": "off",
    "unicorn/no-array-sort": "off",
    // Words of a command that belong together stand on a line of their own: `...["-m", size]`.
    "unicorn/no-useless-spread": "off",
    // A matter of taste, and not ours.
    "import/no-named-as-default-member": "off",
    "no-shadow": "off",
    "promise/always-return": "off",
    "typescript/no-unsafe-type-assertion": "off",
    // Our interfaces are met by closures, which may be taken apart.
    "typescript/unbound-method": "off",
    "unicorn/consistent-function-scoping": "off",
  },
  overrides: [
    ...Object.keys(arrows).flatMap(arrowsOf),
    ...["forges", "providers"].flatMap(siblingsOf),
    ...upper.map((folder) =>
      refuse(`src/${folder}/**`, ["**/cli/**"], "Only the command line imports its own files."),
    ),
    {
      files: ["src/**"],
      rules: {
        "no-restricted-properties": [
          "error",
          { object: "Date", property: "now", message: "The clock is handed in, as `now`." },
          { object: "Math", property: "random", message: "Chance is handed in." },
        ],
      },
    },
    // Where the real clock is handed in from.
    {
      files: ["src/cli/**", "src/fleet/clock.ts"],
      rules: { "no-restricted-properties": "off" },
    },
    // Plain JavaScript has no types to be unsafe against.
    {
      files: ["**/*.{js,cjs}"],
      rules: {
        "typescript/no-unsafe-argument": "off",
        "typescript/no-unsafe-assignment": "off",
        "typescript/no-unsafe-call": "off",
        "typescript/no-unsafe-member-access": "off",
        "typescript/no-unsafe-return": "off",
      },
    },
    // Tests, and what only tests use.
    {
      files: ["**/*.test.ts", "test/**", "src/**/{conformance*,samples,testing}.ts"],
      rules: {
        "no-restricted-imports": "off",
        "no-restricted-properties": "off",
        "typescript/no-unsafe-argument": "off",
        "typescript/no-unsafe-assignment": "off",
        "typescript/no-unsafe-call": "off",
        "typescript/no-unsafe-member-access": "off",
        "typescript/no-unsafe-return": "off",
      },
    },
  ],
});
