// The example cli-presence prints how a person in a browser comes and goes.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { App } from "./app.js";
import { launch } from "./browser.js";
import { Program, buildGo } from "./program.js";
import { Rollcall } from "./server.js";
import { Site } from "./site.js";
import { until } from "./wait.js";

test("a person in a browser is printed", { timeout: 120_000 }, async (context) => {
  const folder = await mkdtemp(join(tmpdir(), "rollcall-cli-"));
  context.after(() => rm(folder, { recursive: true, force: true }));
  const binary = await buildGo("examples/cli-presence", folder);
  const rollcall = await Rollcall.start();
  context.after(() => rollcall.stop());
  const site = await Site.start();
  context.after(() => site.stop());
  const browser = await launch();
  context.after(() => browser.close());

  const cli = new Program(binary, ["--url", `http://${rollcall.http}`, "--credentials", rollcall.credentialsFile, "--uid", "cli"]);
  context.after(() => cli.stop());
  const prints = (pattern) => until(`${pattern} is printed`, () => (cli.mustRun(), pattern.test(cli.stdout)));
  await prints(/^-- connected$/m);
  await rollcall.createUser("ada", { name: "Ada" });
  const app = await App.open(browser, site, rollcall, [], "/rollcall", { clockRuns: true });
  await app.init();
  await app.loginAs("ada");
  await prints(/ Ada +available$/m);
  await app.sdk(() => CometChat.logout());
  await prints(/ Ada +offline$/m);
  cli.child.kill("SIGINT");
  await cli.ended;
  assert.equal(cli.child.exitCode, 0, cli.stderr);
  app.tab.expectNoProblems();
});
