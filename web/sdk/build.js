// Compiles the sources of the package in the current folder twice: as ES modules, and as CommonJS for those who still
// require.
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
const compile = (...options) => execFileSync(process.execPath, [tsc, ...options], { stdio: "inherit" });

rmSync("dist", { recursive: true, force: true });
compile("--project", "tsconfig.json");
mkdirSync("dist/cjs", { recursive: true });
writeFileSync("dist/cjs/package.json", '{"type":"commonjs"}\n');
compile("--project", "tsconfig.json", "--outDir", "dist/cjs", "--module", "commonjs", "--moduleResolution", "bundler", "--verbatimModuleSyntax", "false");
