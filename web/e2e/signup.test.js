// The sign-up example in a real browser: an app with accounts of its own, whose members chat through the official SDK or
// through ours.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { launch } from "./browser.js";
import { Rollcall } from "./server.js";
import { Signup, Visitor } from "./signup.js";
import { until } from "./wait.js";

for (const sdk of ["official", "rollcall"]) describe(`with the SDK ${sdk}`, () => {
  const official = sdk === "official";
  let rollcall, signup, browser;

  before(async () => {
    rollcall = await Rollcall.start();
    signup = await Signup.start(rollcall, sdk);
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    await signup?.stop();
    await rollcall?.stop();
  });

  // visit runs a test with a visitor of its own, and fails when something went wrong in the visitor's tab that the test
  // has not asked for.
  function visit(name, work) {
    test(name, { timeout: 60_000 }, async () => {
      const visitor = await Visitor.arrive(browser, signup);
      try {
        await work(visitor);
        visitor.tab.expectNoProblems();
      } finally {
        await visitor.close();
      }
    });
  }

  const person = (name) => ({ name, email: `${name.toLowerCase().replaceAll(" ", ".")}@example.com`, password: "correct horse battery" });

  visit("register, log in, and see the own name", async (visitor) => {
    const ada = person("Ada Lovelace");
    await visitor.register(ada);
    await visitor.sees("Welcome, Ada Lovelace! Your account is ready");
    assert.deepEqual((await rollcall.rest("GET", "/users?searchKey=ada")).map((user) => user.name), ["Ada Lovelace"], "the chat user is made at once");

    const uid = await visitor.getsIn("Ada Lovelace", () => visitor.logIn(ada));
    assert.match(uid, /^member-\d+$/);
    assert.equal((await rollcall.user(uid)).name, "Ada Lovelace");
    assert.equal((await rollcall.tokens(uid)).length, 1);

    const [cookie, ...more] = await visitor.tab.context.cookies(signup.url);
    assert.deepEqual(more, []);
    assert.equal(cookie.httpOnly, true);
    assert.equal(cookie.sameSite, "Lax");
  });

  visit("change the profile, reload, and find it kept", async (visitor) => {
    const uid = await visitor.enter(person("Grace Hopper"));
    await visitor.fill("Grace Hopper", { Name: "Grace B. Hopper", "Status message": "Looking for moths" });
    await visitor.press("Grace Hopper", "Save");
    await visitor.sees("Saved.");
    await visitor.region("Grace B. Hopper").waitFor();
    const stored = await rollcall.user(uid);
    assert.equal(stored.name, "Grace B. Hopper");
    assert.equal(stored.statusMessage, "Looking for moths");

    assert.equal(await visitor.getsIn("Grace B. Hopper", () => visitor.page.reload()), uid);
    assert.equal(await visitor.region("Grace B. Hopper").getByLabel("Status message").inputValue(), "Looking for moths");
    assert.equal((await rollcall.tokens(uid)).length, 1, "the reload goes on with the same chat session");

    await visitor.fill("Grace B. Hopper", { "Status message": "" });
    await visitor.press("Grace B. Hopper", "Save");
    await visitor.sees("Saved.");
    assert.equal((await rollcall.user(uid)).statusMessage, undefined);
  });

  visit("a name that looks like markup stays a name", async (visitor) => {
    const name = '<img src=x onerror="alert(1)"> & "Co"';
    const uid = await visitor.enter({ name, email: "markup@example.com", password: "correct horse battery" });
    assert.equal((await rollcall.user(uid)).name, name);
  });

  visit("a wrong password and an unknown address are refused alike", async (visitor) => {
    const edsger = person("Edsger Dijkstra");
    await visitor.register(edsger);
    await visitor.sees("Your account is ready");
    for (const wrong of [{ ...edsger, password: "wrong horse battery" }, { ...edsger, email: "nobody@example.com" }]) {
      await visitor.logIn(wrong);
      await visitor.sees("The e-mail address or the password is wrong.");
      await visitor.tab.expectRefusals("401 POST /api/login");
    }
    const [user] = await rollcall.rest("GET", "/users?searchKey=edsger");
    assert.deepEqual(await rollcall.tokens(user.uid), [], "no token is minted for a wrong password");
    assert.deepEqual(await visitor.tab.context.cookies(signup.url), []);
  });

  visit("an e-mail address can register once, however it is written", async (visitor) => {
    const alan = person("Alan Turing");
    await visitor.register(alan);
    await visitor.sees("Your account is ready");
    await visitor.register({ name: "Alan Second", email: "ALAN.Turing@Example.com", password: "another password" });
    await visitor.sees("There is an account with this e-mail address already.");
    await visitor.tab.expectRefusals("409 POST /api/register");
    assert.equal(await visitor.region("Create an account").getByLabel("E-mail").getAttribute("aria-invalid"), "true");
    assert.deepEqual((await rollcall.rest("GET", "/users?searchKey=alan")).map((user) => user.name), ["Alan Turing"]);

    await visitor.press("Create an account", "Log in");
    await visitor.getsIn("Alan Turing", () => visitor.logIn(alan));
  });

  visit("a registration while Rollcall is down is made up for at the next log-in", async (visitor) => {
    const barbara = person("Barbara Liskov");
    await rollcall.pause();
    try {
      await visitor.register(barbara);
      await visitor.sees("Your account is ready");
    } finally {
      await rollcall.resume();
    }
    assert.deepEqual(await rollcall.rest("GET", "/users?searchKey=barbara"), [], "the chat user is pending");
    const uid = await visitor.getsIn("Barbara Liskov", () => visitor.logIn(barbara));
    assert.equal((await rollcall.user(uid)).name, "Barbara Liskov");
  });

  visit("a log-in while Rollcall is down opens the app, and the chat later", async (visitor) => {
    const donald = person("Donald Knuth");
    await visitor.register(donald);
    await visitor.sees("Your account is ready");
    await rollcall.pause();
    try {
      await visitor.logIn(donald);
      await visitor.region("Logged in, without chat").waitFor();
      await visitor.sees("The chat cannot be reached at the moment.");
      await visitor.tab.expectRefusals("503 POST /api/chat-token");
      await visitor.press("Logged in, without chat", "Try again");
      await visitor.tab.expectRefusals("503 POST /api/chat-token");
    } finally {
      await rollcall.resume();
    }
    await visitor.getsIn("Donald Knuth", () => visitor.press("Logged in, without chat", "Try again"));
  });

  visit("a browser that cannot reach Rollcall is told where to look, and can try again", async (visitor) => {
    const radia = person("Radia Perlman");
    await visitor.register(radia);
    await visitor.sees("Your account is ready");
    let reachable = false;
    await visitor.page.route(`${signup.chatURL}/**`, (route) => (reachable ? route.continue() : route.abort()));
    await visitor.logIn(radia);
    if (official) {
      await visitor.sees("The browser cannot reach the chat.");
      assert.equal(await visitor.page.getByRole("link").getAttribute("href"), `${signup.chatURL}/`);
      await visitor.tab.expectFailures(`PUT ${signup.chatURL}/me`);
    } else { // it tries three times
      const call = `PUT ${signup.chatURL}/v3/me`;
      await until("the first attempt has failed", () => visitor.tab.failures.length === 1);
      await visitor.page.clock.runFor(1_000);
      await until("the second attempt has failed", () => visitor.tab.failures.length === 2);
      await visitor.page.clock.runFor(1_000);
      await visitor.sees("The browser cannot reach the chat.");
      assert.equal(await visitor.page.getByRole("link").getAttribute("href"), signup.chatURL);
      await visitor.tab.expectFailures(call, call, call);
    }
    reachable = true;
    await visitor.getsIn("Radia Perlman", () => visitor.press("Logged in, without chat", "Try again"));
  });

  visit("log out ends the app's session and the chat's", async (visitor) => {
    const margaret = person("Margaret Hamilton");
    const uid = await visitor.enter(margaret);
    await visitor.press("Margaret Hamilton", "Log out");
    await visitor.region("Log in").waitFor();
    assert.deepEqual(await rollcall.tokens(uid), [], "the chat token is revoked");
    assert.deepEqual(await visitor.tab.context.cookies(signup.url), []);

    await visitor.page.reload();
    await visitor.region("Log in").waitFor();
    assert.equal(await visitor.getsIn("Margaret Hamilton", () => visitor.logIn(margaret)), uid);
  });

  visit("two people on one browser, one after the other", async (visitor) => {
    const first = await visitor.enter(person("First Person"));
    await visitor.press("First Person", "Log out");
    await visitor.region("Log in").waitFor();
    const second = await visitor.enter(person("Second Person"));
    assert.notEqual(first, second);
  });

  visit("a chat token that is revoked logs the member out of the app", async (visitor) => {
    const uid = await visitor.enter(person("Ken Thompson"));
    if (official) {
      const reported = visitor.page.waitForResponse("**/user_sessions");
      await visitor.page.clock.runFor(6_000); // what the SDK does by itself after a login is over now
      await reported;
    }
    await visitor.tab.socketsReady();
    await rollcall.rest("DELETE", `/users/${uid}/auth_tokens`);
    if (official) await visitor.page.clock.runFor(60_000); // ours knows at once
    await visitor.sees("You have been logged out.");
    await visitor.region("Log in").waitFor();
    await visitor.tab.expectRefusals(...(official ? ["401 POST /ping", "401 GET /me"] : ["401 GET /v3/me"]));

    await visitor.page.reload();
    await visitor.region("Log in").waitFor();
    assert.deepEqual(await visitor.tab.context.cookies(signup.url), []);
  });

  visit("a chat token that is revoked while the page is away ends the session when it comes back", async (visitor) => {
    const uid = await visitor.enter(person("Dennis Ritchie"));
    await visitor.page.goto("about:blank");
    await rollcall.rest("DELETE", `/users/${uid}/auth_tokens`);
    await visitor.page.goto(signup.url);
    await visitor.sees("You have been logged out.");
    await visitor.region("Log in").waitFor();
    if (official) await visitor.tab.expectRefusals(`401 GET /users/${uid}`, "401 POST /ping", "401 GET /me");
    else visitor.tab.refusals = visitor.tab.refusals.filter((refusal) => !/^401 GET \/v3\/(me|users\/)/.test(refusal)); // one of them is first
  });
});
