// Makes dist/: each entry as ESM and CJS with its types for both, and everything as one script for a page.
//
// The surprising decision: names that end in `_` are private and are renamed, in each bundle anew. No bundle shares
// objects with another one but by the names of types.ts, so that does not matter. All is made aside and moved into
// place at the end, so that who reads dist/ meanwhile finds it whole.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";
import { minify } from "terser";

process.chdir(dirname(fileURLToPath(import.meta.url)));
const VERSION = JSON.stringify(JSON.parse(readFileSync("package.json", "utf8")).version);

/** entry: source */
const entries = {
  index: "src/index.ts",
  node: "src/node.ts",
  offline: "src/offline.ts",
  react: "src/react.ts",
  tabs: "src/tabs/index.ts",
  "tabs-worker": "src/tabs/tabs-worker.ts",
  "triode-sse": "src/triode-sse.ts",
};
const out = join("node_modules", `.build-${process.pid}`);

const settings = {
  bundle: true,
  write: false,
  outdir: out,
  target: "es2021",
  minifySyntax: true,
  external: ["react", "ws", "./triode-sse.js"],
  legalComments: "none",
  logLevel: "warning",
  logOverride: { "empty-import-meta": "silent" }, // tabs.cjs: a bundler or `worker` says where its script is
};

mkdirSync(out);
const scripts = { "triode.iife": "src/iife.ts", "tabs.iife": "src/tabs/iife.ts" };
const made = await Promise.all([
  build({ ...settings, entryPoints: entries, format: "esm", define: { VERSION, FALLBACK: '"./triode-sse.js"' } }),
  build({ ...settings, entryPoints: scripts, format: "iife", define: { VERSION, FALLBACK: "Triode.fallback" } }),
]);
for (const { path, text } of made.flatMap(({ outputFiles }) => outputFiles)) {
  const { code } = await minify(text, {
    ecma: 2020,
    module: !path.endsWith(".iife.js"),
    compress: { passes: 2 },
    mangle: { toplevel: true, properties: { regex: /[^_]_$/ } },
  });
  writeFileSync(path, code);
  if (path.endsWith(".iife.js")) continue;
  const { logLevel, logOverride, target } = settings;
  const common = await transform(code, { format: "cjs", platform: "node", minify: true, logLevel, logOverride, target });
  writeFileSync(path.replace(/\.js$/, ".cjs"), common.code);
}

// Types: what the entries need, once for import and once for require.
const types = join(out, "types");
const tsc = join("node_modules", "typescript", "bin", "tsc");
execFileSync(process.execPath, [tsc, "-p", "tsconfig.build.json", "--outDir", types], { stdio: "inherit" });
const needed = new Set();
const need = (file) => {
  if (needed.has(file)) return;
  needed.add(file);
  const text = readFileSync(file, "utf8");
  for (const [, path] of text.matchAll(/(?:from |import\()"(\.[^"]*)\.js"/g)) need(join(dirname(file), path + ".d.ts"));
  writeFileSync(file.replace(/\.d\.ts$/, ".d.cts"), text.replace(/((?:from |import\()"\.[^"]*)\.js"/g, '$1.cjs"'));
};
for (const source of Object.values(entries)) need(join(types, relative("src", source).replace(/\.ts$/, ".d.ts")));
for (const name of readdirSync(types, { recursive: true }))
  if (/\.d\.ts$/.test(name) && !needed.has(join(types, name))) rmSync(join(types, name));

rmSync("dist", { recursive: true, force: true });
renameSync(out, "dist");
