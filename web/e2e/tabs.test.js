// Our SDK in Chromium, where the official one has nothing to compare with: tabs that share a login, pages backward, plain
// sockets.
import assert from "node:assert/strict";
import { test } from "node:test";

import { App } from "./app.js";
import { setStage } from "./stage.js";
import { until } from "./wait.js";

let rollcall, site, browser;
setStage((stage) => ({ rollcall, site, browser } = stage));

const bound = { timeout: 60_000 };

// open returns a page with our SDK that is initialized, over plain HTTP; beside another one it shares its storage.
async function open(beside) {
  const app = await App.open(browser, site, rollcall, [rollcall.http], "/rollcall", { clockRuns: true, beside: beside?.tab });
  await app.init({ host: `http://${rollcall.http}` });
  return app;
}

const user = (app) => app.sdk(() => CometChat.getLoggedinUser());

test("tabs share a login, a profile and a logout", bound, async () => {
  await rollcall.createUser("t-ada");
  const first = await open();
  const second = await open(first);
  await first.loginAs("t-ada");
  await until("the second tab is logged in", async () => (await user(second))?.uid === "t-ada");
  assert.deepEqual(await second.takeEvents(), ["loginSuccess"]);
  await second.tab.socketsReady();
  const { devices } = await rollcall.rest("GET", "/users/t-ada/presence");
  assert.equal(devices.length, 2, "each tab is a device of its own");
  await second.sdk(() => CometChat.updateCurrentUserDetails({ name: "Ada of two tabs" }));
  await until("the first tab has the name", async () => (await user(first)).name === "Ada of two tabs");
  const third = await open(first);
  assert.equal((await user(third)).uid, "t-ada", "a new tab finds the login");
  await first.sdk(() => CometChat.logout());
  for (const tab of [second, third]) {
    await until("the other tabs are logged out", async () => (await user(tab)) === null);
    assert.equal((await tab.takeEvents()).filter((event) => event === "logoutSuccess").length, 1);
    // The server may have closed the tab's socket before the browser told it of the logout: then it has asked why.
    tab.tab.refusals = tab.tab.refusals.filter((refusal) => refusal !== "401 GET /v3/me");
  }
  await until("nobody is connected", () => [first, second, third].every((app) => app.tab.sockets.size === 0));
  assert.deepEqual(await rollcall.tokens("t-ada"), []);
  for (const app of [first, second, third]) app.tab.expectNoProblems();
  await first.close();
});

test("a revoked token ends in one logout in every tab, and no socket comes back", bound, async () => {
  await rollcall.createUser("v-ada");
  const first = await open();
  const second = await open(first);
  await first.loginAs("v-ada");
  await until("the second tab is connected", () => second.tab.sockets.size === 1);
  await first.takeEvents();
  await second.takeEvents();
  await rollcall.rest("DELETE", "/users/v-ada/auth_tokens");
  for (const app of [first, second]) {
    await until("the logout is told", async () => (await user(app)) === null);
    assert.deepEqual(await app.takeEvents(), ["logoutSuccess"]);
    assert.equal(app.tab.sockets.size, 0);
  }
  await first.close();
});

test("lists go forward and back", bound, async () => {
  await rollcall.rest("POST", "/users/batch", { users: Array.from({ length: 7 }, (_, i) => ({ uid: `page-${i}`, name: `Pager ${i}` })) });
  await rollcall.createUser("page-me");
  const app = await open();
  await app.loginAs("page-me");
  const seen = await app.sdk(async () => {
    const request = new CometChat.UsersRequestBuilder().setLimit(3).setSearchKeyword("pager").sortBy("name").build();
    const pages = [];
    for (const step of ["fetchPrevious", "fetchNext", "fetchNext", "fetchNext", "fetchNext", "fetchPrevious", "fetchPrevious", "fetchPrevious"]) {
      pages.push([(await request[step]()).map(({ uid }) => uid.slice(5)).join(), request.getPage()]);
    }
    return pages;
  });
  assert.deepEqual(seen, [["", 0], ["0,1,2", 1], ["3,4,5", 2], ["6", 3], ["", 3], ["3,4,5", 2], ["0,1,2", 1], ["", 1]]);
  app.tab.expectNoProblems();
  await app.close();
});

test("where a browser does not say why a call failed, the error says what to look at", bound, async () => {
  const context = await browser.newContext(); // one that accepts no self-signed certificate
  const page = await context.newPage();
  await page.goto(`http://${site.host}/rollcall`);
  await page.waitForFunction(() => window.CometChat);
  const failure = (host) =>
    page.evaluate(async ({ appId, host, token }) => {
      await CometChat.init(appId, new CometChat.AppSettingsBuilder().setHost(host).build());
      return CometChat.login(token).then(() => undefined, ({ code, message, cause }) => ({ code, message, cause: String(cause) }));
    }, { appId: rollcall.appId, host, token: `nobody_${"0".repeat(40)}` });
  const certificate = await failure(`https://${rollcall.https}`);
  assert.equal(certificate.code, "FAILED_TO_FETCH");
  assert.match(certificate.cause, /^TypeError/);
  assert.ok(certificate.message.includes(`open https://${rollcall.https} once in this browser and accept it`), certificate.message);
  await context.close();
});
