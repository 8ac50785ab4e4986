// The same calls on the official SDK, on ours and on other builds of the official one, against the same server. What
// can be observed is alike, but for the differences that docs/sdk-differences.md and docs/clients.md list.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";

import { App } from "./app.js";
import { launch } from "./browser.js";
import { builds } from "./builds.js";
import { differencesOf, observeCalls } from "./compat.js";
import { repository } from "./program.js";
import { Rollcall } from "./server.js";
import { Site } from "./site.js";

let site, browser;

before(async () => {
  site = await Site.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await site?.stop();
});

// listed returns the places in the tables of a document that begin with a cell, or with none.
async function listed(document, first = "") {
  const text = await readFile(`${repository}docs/${document}`, "utf8");
  const rows = [...text.matchAll(/^\| (?:`([^`]+)` \| )?`([^`]+)` \|/gm)];
  return rows.filter(([, build = ""]) => build === first).map(([, , place]) => place);
}

// assertListed fails on a difference that is not listed, and on an entry that is none.
function assertListed(found, listed) {
  const anywhere = (entry, path) => entry.startsWith("*.") && path.endsWith(entry.slice(1));
  const covers = (entry, { path }) => path === entry || path.startsWith(`${entry}.`) || anywhere(entry, path);
  const unlisted = found.filter((difference) => !listed.some((entry) => covers(entry, difference)));
  const untrue = listed.filter((entry) => !found.some((difference) => covers(entry, difference)));
  assert.deepEqual(unlisted, [], "differences that are not listed");
  assert.deepEqual(untrue, [], "listed, but there is no such difference");
}

describe("everything documented is alike, but for the listed differences", { concurrency: 3 }, () => {
  let official;
  const compare = async (page) => {
    official ??= observeCalls(browser, site, "/");
    return differencesOf(await official, await observeCalls(browser, site, page));
  };

  test("on the official SDK and on ours", { timeout: 240_000 }, async () => {
    assertListed(await compare("/rollcall"), await listed("sdk-differences.md"));
  });

  for (const build of builds.slice(1)) {
    test(`on the official SDK and on ${build.key}`, { timeout: 240_000 }, async () => {
      await site.add(build);
      assertListed(await compare(`/${build.key}`), await listed("clients.md", build.key));
    });
  }
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
