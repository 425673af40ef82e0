// Bundles tests/*.test.ts as they stand (no types are checked here) and runs them with node:test. Arguments: files.
//
// The surprising decision: tests are bundled from the sources, not from dist/, with the private names as written.
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

process.chdir(dirname(fileURLToPath(import.meta.url)));
const given = process.argv.slice(2);
const tests = given.length ? given : readdirSync("tests", { recursive: true }).map((name) => join("tests", name));
const out = "dist-tests";
rmSync(out, { recursive: true, force: true });
await build({
  entryPoints: tests.filter((name) => name.endsWith(".test.ts") || name.endsWith(".test.tsx")),
  outdir: out,
  outbase: "tests",
  outExtension: { ".js": ".mjs" },
  bundle: true,
  format: "esm",
  platform: "node",
  target: "es2022",
  packages: "external",
  define: { VERSION: '"0.0.0-test"', FALLBACK: '"../src/triode-sse.ts"' },
  logLevel: "warning",
});
const made = readdirSync(out, { recursive: true }).filter((name) => name.endsWith(".mjs"));
const run = spawnSync(process.execPath, ["--test", ...made.map((name) => join(out, name))], { stdio: "inherit" });
rmSync(out, { recursive: true, force: true });
process.exit(run.status ?? 1);
