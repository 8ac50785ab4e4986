// The same calls on the official SDK and on ours, against the same server. What can be observed is alike, but for the
// differences on purpose that docs/sdk-differences.md lists.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";

import { App } from "./app.js";
import { launch } from "./browser.js";
import { calls } from "./compat-calls.js";
import { repository } from "./program.js";
import { Rollcall } from "./server.js";
import { Site } from "./site.js";
import { until } from "./wait.js";

let site, browser;

before(async () => {
  site = await Site.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await site?.stop();
});

// run makes every call with one SDK, on a server of its own, and returns what was observed.
async function run(page) {
  const rollcall = await Rollcall.start();
  const app = await App.open(browser, site, rollcall, [], page, { clockRuns: true });
  const observed = {};
  const make = async (name, extra = {}) => {
    observed[name] = await observe(app, calls[name], { key: rollcall.authKey, ...extra });
  };
  try {
    const early = ["init: before it", "init: blank app id", "AppSettingsBuilder", "User: every setter and getter"];
    for (const name of early) await make(name);
    await app.init({ subscribe: ["subscribePresenceForAllUsers"] });
    await app.page.evaluate((key) => (document.documentElement.dataset.key = key), rollcall.authKey);
    await rollcall.rest("POST", "/roles", { role: "star", name: "Star" });
    for (let i = 1; i <= 5; i++) await rollcall.createUser(`lister-${i}`, { name: `Lister ${i}`, role: i % 2 ? "star" : "default" });
    for (const name of Object.keys(calls).filter((name) => !early.includes(name))) {
      if (name === "login: with uid and key") {
        await app.afterLogin(() => make(name));
        await rollcall.rest("POST", "/users/ada/friends", { accepted: ["lister-2"] });
        await rollcall.rest("POST", "/users/lister-3/blockedusers", { blockedUids: ["ada"] });
      } else {
        await make(name);
      }
    }
    observed["addUserListener"] = await hear(app, rollcall);
    observed["a reload"] = await reload(app);
    observed["login: with a token"] = await token(app, rollcall);
    observed["a revoked token"] = await revoked(app, rollcall);
    observed["logout"] = await logout(app, rollcall);
    observed["disconnect and connect"] = await reconnect(app);
    return observed;
  } finally {
    await app.close();
    await rollcall.stop();
  }
}

// observe makes a call in the page, and returns what it resolves to or is rejected with.
async function observe(app, call, given) {
  const { value, failure } = await app.page.evaluate(
    async ([source, given]) => {
      const plain = (value) => JSON.parse(JSON.stringify(value ?? null));
      const failed = (error) => ({ code: error?.code, name: error?.code === "-1" || error?.code === -1 ? error.name : undefined });
      const bound = (promise) => Promise.race([promise, new Promise((resolve) => setTimeout(() => resolve("never settles"), 3000))]);
      const attempt = async (works) => {
        const results = {};
        for (const [name, work] of Object.entries(works)) {
          try {
            results[name] = plain(await bound(work()));
          } catch (error) {
            results[name] = { failed: failed(error) };
          }
        }
        return results;
      };
      try {
        return { value: plain(await (0, eval)(`(${source})`)({ ...given, attempt })) };
      } catch (error) {
        return { failure: { failed: failed(error) } };
      }
    },
    [call.toString(), given],
  );
  return failure ?? value;
}

async function hear(app, rollcall) {
  await app.sdk(() => presence.splice(0));
  const other = await App.open(browser, site, rollcall, [], "/rollcall", { clockRuns: true });
  await other.init();
  const told = async (count) => {
    await until(`${count} are told`, async () => (await app.sdk(() => presence.length)) >= count);
    return app.sdk(() => presence.splice(0));
  };
  await other.login("lister-1", rollcall.authKey);
  const came = await told(1);
  await other.sdk(() => CometChat.logout());
  const left = await told(1);
  await app.sdk(() => CometChat.removeUserListener("test"));
  await other.close();
  return [...came, ...left];
}

async function reload(app) {
  const key = await app.page.evaluate(() => document.documentElement.dataset.key);
  await app.reload();
  await app.page.evaluate((key) => (document.documentElement.dataset.key = key), key);
  return observe(app, async () => [(await CometChat.getLoggedinUser()).getUid(), CometChat.getConnectionStatus(), (await CometChat.getUser("bob")).getName()], {});
}

async function token(app, rollcall) {
  await app.sdk(() => events.splice(0));
  const token = await rollcall.mint("bob");
  const wrong = await observe(app, ({ attempt }) => attempt({ wrong: () => CometChat.login("no-such-token") }), {});
  let value;
  await app.afterLogin(async () => {
    value = await observe(app, ({ token }) => CometChat.login(token), { token });
  });
  return { wrong, value, events: await app.takeEvents() };
}

async function revoked(app, rollcall) {
  await app.takeEvents();
  await rollcall.rest("DELETE", "/users/bob/auth_tokens");
  await observe(app, ({ attempt }) => attempt({ call: () => CometChat.getUser("ada") }), {});
  await until("the logout is told", async () => (await app.sdk(() => events.length)) > 0);
  return { events: await app.takeEvents(), user: await app.loggedInUser() };
}

async function logout(app, rollcall) {
  await app.afterLogin(() => app.sdk((key) => CometChat.login("ada", key), rollcall.authKey));
  await app.takeEvents();
  const answer = await observe(app, ({ attempt }) => attempt({ logout: () => CometChat.logout(), user: () => CometChat.getLoggedinUser(), again: () => CometChat.logout() }), {});
  return { answer, events: await app.takeEvents(), tokens: (await rollcall.tokens("ada")).length };
}

// reconnect goes offline and comes back. What the listeners are told of it differs, and so does the status in between.
async function reconnect(app) {
  await app.afterLogin(() => app.sdk(() => CometChat.login("bob", document.documentElement.dataset.key)));
  await app.sdk(() => CometChat.disconnect());
  await until("the socket is closed", () => app.tab.sockets.size === 0);
  await app.sdk(() => CometChat.connect());
  await app.tab.socketsReady();
  return app.sdk(() => CometChat.getConnectionStatus());
}

// comparable takes out what differs between any two runs.
function comparable(value) {
  return JSON.parse(JSON.stringify(value), (key, value) => {
    if (/At$/.test(key) && value > 1e9) return "a time";
    return value;
  });
}

// differencesOf lists the places at which two observations differ, as paths.
function differencesOf(official, ours, path) {
  if (official && ours && typeof official === "object" && typeof ours === "object") {
    const keys = [...new Set([...Object.keys(official), ...Object.keys(ours)])];
    return keys.flatMap((key) => differencesOf(official[key], ours[key], `${path}.${key}`));
  }
  return JSON.stringify(official) === JSON.stringify(ours) ? [] : [{ path, official, ours }];
}

test("everything documented is alike on both SDKs, but for the listed differences", { timeout: 240_000 }, async () => {
  const official = comparable(await run("/"));
  const ours = comparable(await run("/rollcall"));
  const found = differencesOf(official, ours, "").map(({ path, ...both }) => ({ path: path.slice(1), ...both }));
  const doc = await readFile(`${repository}docs/sdk-differences.md`, "utf8");
  const listed = [...doc.matchAll(/^\| `([^`]+)` \|/gm)].map((match) => match[1]);
  const covers = (listed, { path }) => path === listed || path.startsWith(`${listed}.`) || (listed.startsWith("*.") && path.endsWith(listed.slice(1)));
  assert.deepEqual(found.filter((difference) => !listed.some((entry) => covers(entry, difference))), [], "differences that are not listed");
  assert.deepEqual(listed.filter((entry) => !found.some((difference) => covers(entry, difference))), [], "listed, but there is no such difference");
});

// The names of the official SDK that are about users, presence, blocking and authentication.
const inScope = /user|log(in|out)|^(is)?init|connect|block|presence|jwt|authtoken|appsettings/i;

// The classes whose methods are all in scope.
const classes = ["User", "UsersRequest", "UsersRequestBuilder", "BlockedUsersRequest", "BlockedUsersRequestBuilder", "AppSettings", "AppSettingsBuilder"];

test("every name in scope is there on ours, or listed as left out", { timeout: 60_000 }, async () => {
  const rollcall = await Rollcall.start();
  const apps = await Promise.all(["/", "/rollcall"].map((page) => App.open(browser, site, rollcall, [], page)));
  try {
    const [[official, theirMethods], [ours, ourMethods]] = await Promise.all(
      apps.map((app) =>
        app.sdk((classes) => {
          // Methods may be inherited.
          const methods = (prototype) => (prototype === Object.prototype ? [] : [...Object.getOwnPropertyNames(prototype), ...methods(Object.getPrototypeOf(prototype))]);
          return [Object.getOwnPropertyNames(CometChat), classes.flatMap((name) => methods(CometChat[name].prototype).map((method) => `${name}.${method}`))];
        }, classes),
      ),
    );
    const doc = await readFile(`${repository}docs/sdk-differences.md`, "utf8");
    const missing = official.filter((name) => inScope.test(name) && !ours.includes(name) && !doc.includes(`\`${name}\``));
    assert.deepEqual(missing, []);
    assert.deepEqual(theirMethods.filter((name) => !ourMethods.includes(name) && !doc.includes(`\`${name}\``)), []);
  } finally {
    await Promise.all(apps.map((app) => app.close()));
    await rollcall.stop();
  }
});
