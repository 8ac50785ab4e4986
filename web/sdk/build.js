// Compiles the sources twice: as ES modules, and as CommonJS for those who still require.
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
const compile = (...options) => execFileSync(process.execPath, [tsc, ...options], { cwd: import.meta.dirname, stdio: "inherit" });

rmSync(new URL("dist", import.meta.url), { recursive: true, force: true });
compile("--project", "tsconfig.json");
mkdirSync(new URL("dist/cjs", import.meta.url), { recursive: true });
writeFileSync(new URL("dist/cjs/package.json", import.meta.url), '{"type":"commonjs"}\n');
compile("--project", "tsconfig.json", "--outDir", "dist/cjs", "--module", "commonjs", "--moduleResolution", "bundler", "--verbatimModuleSyntax", "false");
