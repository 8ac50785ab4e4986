// The example express, started as its README says: its page in two browsers, beside a real server.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { join } from "node:path";

import { launch } from "./browser.js";
import { Program, repository } from "./program.js";
import { Rollcall } from "./server.js";
import { until } from "./wait.js";

let rollcall, app, address, browsers;

before(async () => {
  rollcall = await Rollcall.start();
  const env = { ...process.env, ROLLCALL_URL: `http://${rollcall.http}`, ROLLCALL_CREDENTIALS: rollcall.credentialsFile, PORT: "0" };
  app = new Program(process.execPath, [join(repository, "examples/express/server.js")], { env });
  address = await until("the example prints its address", () => {
    app.mustRun();
    return app.stdout.match(/Open (\S+)/)?.[1];
  });
  browsers = await Promise.all([launch(), launch()]);
});

after(async () => {
  await Promise.all((browsers ?? []).map((browser) => browser.close()));
  await app?.stop();
  assert.equal(app?.stderr, "", "the example has logged faults");
  await rollcall?.stop();
});

async function arrive(browser) {
  const page = await browser.newPage();
  const problems = [];
  page.on("pageerror", (error) => problems.push(error.stack));
  await page.goto(address);
  const fill = async (form, fields) => {
    const element = page.getByRole("form", { name: form });
    for (const [label, value] of Object.entries(fields)) await element.getByLabel(label).fill(value);
    await element.getByRole("button").click();
  };
  return {
    page, problems, fill,
    heading: (name) => page.getByRole("heading", { name, exact: true }).waitFor(),
    press: (name) => page.getByRole("button", { name }).click(),
    says: (text) => page.getByRole("alert").filter({ hasText: text }).waitFor(),
  };
}

test("register, log in, update, deactivate and erase", { timeout: 120_000 }, async () => {
  const [ada, bob] = await Promise.all(browsers.map(arrive));
  const account = { "E-mail": "ada@example.com", Password: "correct horse" };
  await ada.fill("Register", { Name: "Ada", ...account });
  await ada.heading("Ada");
  const [user, ...more] = await rollcall.rest("GET", "/users");
  assert.deepEqual([user.name, more.length, (await rollcall.tokens(user.uid)).length], ["Ada", 0, 1]);
  await bob.fill("Register", { Name: "Bob", "E-mail": "bob@example.com", Password: "battery staple" });
  await bob.heading("Bob");
  await bob.page.getByText("Ada: online").waitFor();
  await ada.page.getByText("Bob: online").waitFor();

  await ada.fill("Name", { Name: "Ada Lovelace" });
  await ada.heading("Ada Lovelace"); // by what the socket tells
  await bob.page.getByText("Ada Lovelace: online").waitFor();
  await ada.fill("Status", { "Status message": "Counting" });
  await ada.page.getByText("Counting").waitFor();
  assert.deepEqual(await rollcall.user(user.uid).then(({ name, statusMessage }) => [name, statusMessage]), ["Ada Lovelace", "Counting"]);

  await ada.press("Deactivate my account");
  await ada.heading("Members");
  await bob.page.getByText("Ada Lovelace: online").waitFor({ state: "detached" });
  assert.equal((await rollcall.call("GET", `/users/${user.uid}`)).status, 404);
  await ada.fill("Log in", { ...account, Password: "wrong" });
  await ada.says("not the password");
  await ada.fill("Log in", account);
  await ada.heading("Ada Lovelace");
  await bob.page.getByText("Ada Lovelace: online").waitFor();

  await ada.page.reload();
  await ada.heading("Ada Lovelace");
  await ada.press("Log out");
  await ada.heading("Members");
  assert.equal((await rollcall.tokens(user.uid)).length, 1, "the token of this login has ended, that of the registration has not");
  await ada.fill("Register", { Name: "Ada", ...account });
  await ada.says("Log in instead");
  await ada.fill("Log in", account);
  await ada.heading("Ada Lovelace");
  await ada.press("Erase my account");
  await ada.heading("Members");
  assert.deepEqual((await rollcall.call("PUT", "/users", { uidsToActivate: [user.uid] })).data, { notFound: [user.uid] }, "it cannot come back");
  await ada.fill("Log in", account);
  await ada.says("not the password");
  assert.deepEqual([ada.problems, bob.problems], [[], []]);
});

test("what is not right is refused in words", { timeout: 60_000 }, async () => {
  const call = (method, path, body, cookie = "") =>
    fetch(new URL(path, address), { method, headers: { "content-type": "application/json", cookie }, body: body && JSON.stringify(body) });
  for (const [status, ...request] of [
    [400, "POST", "/api/register", { email: "x@example.com", password: "x" }], [400, "POST", "/api/login", {}], [401, "POST", "/api/login", { email: "no@example.com", password: "x" }],
    [401, "PUT", "/api/name", { name: "X" }], [401, "POST", "/api/deactivate"], [401, "DELETE", "/api/account"], [401, "POST", "/api/logout", undefined, "session=unknown"],
  ]) {
    const answer = await call(...request);
    assert.equal(answer.status, status, request.join(" "));
    assert.ok((await answer.json()).error.length > 10);
  }
});
