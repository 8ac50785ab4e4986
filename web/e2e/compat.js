// Makes every call that the official SDK documents for users, presence, blocking and authentication with one SDK in a page, and
// compares what two of them have shown.
import { App } from "./app.js";
import { calls } from "./compat-calls.js";
import { Rollcall } from "./server.js";
import { until } from "./wait.js";

// observeCalls makes every call with the SDK of one page, on a server of its own, and returns what was observed.
export async function observeCalls(browser, site, page) {
  const rollcall = await Rollcall.start();
  const app = await App.open(browser, site, rollcall, [], page, { clockRuns: true });
  const observed = {};
  const make = async (name, extra = {}) => {
    observed[name] = await observe(app, calls[name], { key: rollcall.authKey, ...extra });
  };
  try {
    const early = ["init: before it", "init: blank app id", "AppSettingsBuilder", "AppSettingsBuilder: setStorageMode", "User: every setter and getter"];
    for (const name of early) await make(name);
    await app.fresh(); // some builds keep what they stored before init for good
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
    observed["addUserListener"] = await hear(app, browser, site, rollcall);
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

async function hear(app, browser, site, rollcall) {
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

// comparable takes out what differs between any two runs: times, what was minted, and addresses.
function comparable(value) {
  return JSON.parse(JSON.stringify(value), (key, value) => {
    if (/At$/.test(key) && value > 1e9) return "a time";
    if (["authToken", "jwt", "wsChannel", "settings"].includes(key) && value !== null) return `a ${key}`;
    return value;
  });
}

// differencesOf lists the places at which two observations differ, as paths.
export function differencesOf(official, other) {
  return differencesAt(comparable(official), comparable(other), "").map(({ path, ...both }) => ({ path: path.slice(1), ...both }));
}

function differencesAt(official, other, path) {
  if (official && other && typeof official === "object" && typeof other === "object") {
    const keys = [...new Set([...Object.keys(official), ...Object.keys(other)])];
    return keys.flatMap((key) => differencesAt(official[key], other[key], `${path}.${key}`));
  }
  return JSON.stringify(official) === JSON.stringify(other) ? [] : [{ path, official, other }];
}
