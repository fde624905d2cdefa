/*
 * Bundles the command line into a folder: `node scripts/build.ts [OUTDIR]` (dist). Code-split, so
 * that a command loads only what it needs; nothing is left to be installed. The launcher is written
 * last: where it is, the bundle is whole.
 */
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { build, type Metafile, type Plugin } from "esbuild";

const root = join(import.meta.dirname, "..");
const outdir = resolve(process.argv[2] ?? join(root, "dist"));

rmSync(outdir, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: { main: "src/cli/main.ts" },
  outdir,
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node24",
  metafile: true,
  legalComments: "none",
  logLevel: "warning",
  // pg asks for it only where an application chose it.
  external: ["pg-native"],
  // Packages in CommonJS call require() for Node's own modules.
  banner: {
    js: 'import { createRequire as $createRequire } from "node:module"; const require = $createRequire(import.meta.url);',
  },
  plugins: [assets(join(outdir, "assets"))],
});
refuseLazyPackages(metafile);
writeFileSync(join(outdir, "LICENSES.txt"), licences(metafile));
const launcher = join(outdir, "mayfly.js");
copyFileSync(join(root, "scripts/launcher.js"), launcher);
chmodSync(launcher, 0o755);
const size = Object.values(metafile.outputs).reduce((sum, { bytes }) => sum + bytes, 0);
const count = Object.keys(metafile.outputs).length;
console.log(
  `${relative(process.cwd(), launcher)}: ${count} chunks, ${Math.round(size / 1024)} KiB`,
);

/**
 * Files that the source names by `new URL("./file", import.meta.url)` go along with the bundle. Any
 * other use of import.meta would point to the wrong place there, and is refused.
 */
function assets(folder: string): Plugin {
  const reference = /new URL\(\s*"(\.[^"]+)",\s*import\.meta\.url,?\s*\)/g;
  return {
    name: "assets",
    setup(bundler) {
      bundler.onLoad({ filter: /[\\/]src[\\/].*\.ts$/ }, ({ path }) => {
        const contents = readFileSync(path, "utf8").replaceAll(reference, (_, target: string) => {
          const file = join(dirname(path), target);
          const name = relative(join(root, "src"), file).replaceAll(/[\\/]/g, "-");
          mkdirSync(folder, { recursive: true });
          copyFileSync(file, join(folder, name));
          return `new URL("./assets/${name}", $meta.url)`;
        });
        if (contents.includes("import.meta")) {
          return {
            errors: [{ text: `${path}: only new URL("./file", import.meta.url) works here` }],
          };
        }
        return { contents: contents.replaceAll("$meta.url", "import.meta.url"), loader: "ts" };
      });
    },
  };
}

/**
 * `await import("package")` of a package in CommonJS has named exports in Node but not in a bundle.
 * A module of our own that imports the package may be loaded late instead.
 */
function refuseLazyPackages(meta: Metafile): void {
  for (const [path, { imports }] of Object.entries(meta.inputs)) {
    if (!path.startsWith("src/")) continue;
    for (const found of imports) {
      const commonJs = meta.inputs[found.path]?.format === "cjs";
      if (found.kind !== "dynamic-import" || !commonJs) continue;
      throw new Error(`${path}: load a module of ours late, not the package ${found.original}`);
    }
  }
}

/** The licences of all packages that went into the bundle, as they ask for. */
function licences(meta: Metafile): string {
  const packages = new Set(
    Object.keys(meta.inputs).flatMap(
      (path) => /^node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? [],
    ),
  );
  const texts = [...packages].toSorted().map((folder) => {
    const about = JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8")) as {
      name: string;
      version: string;
      license?: string;
    };
    const file = readdirSync(join(root, folder)).find((name) => /^licen[cs]e/i.test(name));
    const text = file === undefined ? "" : readFileSync(join(root, folder, file), "utf8");
    return `${about.name} ${about.version} (${about.license ?? "see below"})\n\n${text.trim()}\n`;
  });
  return `Mayfly's bundle contains these packages.\n\n${texts.join(`\n${"-".repeat(80)}\n\n`)}`;
}
