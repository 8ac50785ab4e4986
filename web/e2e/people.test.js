// The example people in two browsers side by side, started as its README says.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { launch } from "./browser.js";
import { Program, buildGo, repository } from "./program.js";
import { Rollcall } from "./server.js";
import { until } from "./wait.js";

let rollcall, browsers, app, address, folder;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "rollcall-people-"));
  const binary = await buildGo("examples/people", folder);
  rollcall = await Rollcall.start();
  app = new Program(
    binary,
    ["--listen", "127.0.0.1:0", "--rollcall", `http://${rollcall.http}`, "--credentials", rollcall.credentialsFile, "--page", join(repository, "examples/people/dist")],
  );
  address = await until("the example prints its address", () => {
    app.mustRun();
    return app.stderr.match(/url=(\S+)/)?.[1];
  });
  browsers = await Promise.all([launch(), launch()]);
});

after(async () => {
  await Promise.all((browsers ?? []).map((browser) => browser.close()));
  await app?.stop();
  await rollcall?.stop();
  await rm(folder, { recursive: true, force: true });
});

// enter opens the page in a browser of its own and logs somebody in.
async function enter(browser, name) {
  const page = await browser.newPage({ viewport: { width: 900, height: 800 } });
  const problems = [];
  page.on("pageerror", (error) => problems.push(error.stack));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  await page.goto(address);
  await page.getByRole("button", { name }).click();
  await page.getByRole("heading", { name }).waitFor();
  await page.locator(".connection.connected").waitFor();
  const row = (who) => page.getByRole("listitem").filter({ hasText: who });
  const shoot = async (file) => {
    if (process.env.SCREENSHOTS) await page.screenshot({ path: join(process.env.SCREENSHOTS, `${file}.png`) });
  };
  return { page, problems, row, shoot, count: () => page.getByRole("listitem").count() };
}

test("two people see each other come, change and go", { timeout: 120_000 }, async () => {
  const ada = await enter(browsers[0], "Ada Lovelace");
  await ada.page.getByText("245 people").waitFor();
  assert.equal(await ada.count(), 30);

  await ada.page.getByRole("listitem").last().scrollIntoViewIfNeeded();
  await until("more people are loaded", async () => (await ada.count()) > 30);
  while ((await ada.count()) < 245) await ada.page.getByRole("listitem").last().scrollIntoViewIfNeeded();
  assert.equal(new Set(await ada.page.getByRole("listitem").evaluateAll((rows) => rows.map((row) => row.dataset.uid))).size, 245);

  await ada.page.getByRole("searchbox").pressSequentially("grac");
  await ada.page.getByText("1 person").waitFor();
  assert.equal(await ada.row("Grace Hopper").locator(".status").textContent(), "offline");
  const grace = await enter(browsers[1], "Grace Hopper");
  await ada.row("Grace Hopper").getByText("online").waitFor();
  await ada.page.getByRole("searchbox").fill("");
  const first = () => ada.page.getByRole("listitem").first().textContent();
  await until("who has come stands first", async () => (await first()).includes("Grace Hopper"));
  await until("those online come first", async () => (await grace.page.getByRole("listitem").first().textContent()).includes("Ada Lovelace"));

  await grace.page.getByRole("button", { name: "Edit profile" }).click();
  await grace.page.getByLabel("Name").fill("Rear Admiral Hopper");
  await grace.page.getByLabel("Status message").fill("Looking for a moth");
  await grace.page.getByLabel("Show me as").selectOption("busy");
  await grace.page.getByRole("button", { name: "Save" }).click();
  await grace.page.getByRole("heading", { name: "Rear Admiral Hopper" }).waitFor();
  await grace.page.getByText("Looking for a moth").waitFor();
  await ada.page.getByRole("button", { name: "Online" }).click();
  await ada.row("Rear Admiral Hopper").locator(".dot.busy").waitFor();
  assert.equal(await ada.count(), 1);
  await ada.page.getByRole("button", { name: "Everybody" }).click();
  await ada.shoot("people-ada");
  await grace.shoot("people-grace");

  await ada.page.getByRole("button", { name: "Friends" }).click();
  await ada.page.getByText("2 people").waitFor();
  await ada.page.getByRole("button", { name: "Team" }).click();
  await ada.page.getByText("5 people").waitFor();
  await ada.row("Alan Turing").getByRole("button", { name: "Block" }).click();
  await ada.row("Alan Turing").getByRole("button", { name: "Unblock" }).waitFor();
  assert.equal((await rollcall.rest("GET", "/users/visitor-1/blockedusers")).length, 1);
  await ada.shoot("people-blocked");
  await ada.page.getByLabel("Hide blocked").check();
  await ada.page.getByText("4 people").waitFor();
  await ada.page.getByLabel("Hide blocked").uncheck();
  await ada.row("Alan Turing").getByRole("button", { name: "Unblock" }).click();
  await ada.row("Alan Turing").getByRole("button", { name: "Block", exact: true }).waitFor();

  await grace.page.reload();
  await grace.page.locator(".connection.connected").waitFor();
  await grace.page.getByRole("button", { name: "Log out" }).click();
  await grace.page.getByText("Who are you?").waitFor();
  await until("who has gone stands first no more", async () => !(await first()).includes("Hopper"));

  assert.deepEqual([ada.problems, grace.problems], [[], []]);
  await rollcall.rest("DELETE", "/users/visitor-1/auth_tokens"); // the page asks once why it was logged out, and is refused
  await ada.page.getByText("Who are you?").waitFor();
});
