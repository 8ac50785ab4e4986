// Somebody who hears of everybody, and what it was told: our own client in Node, whose clock is the real one.
import assert from "node:assert/strict";

import { RollcallClient } from "@rollcall/sdk";

import { until } from "./wait.js";

export class Watcher {
  told = [];

  // enter logs a new user in who hears of everybody.
  static async enter(rollcall, uid) {
    const watcher = new Watcher();
    watcher.rollcall = rollcall;
    watcher.client = await connected(rollcall, uid, "all");
    watcher.client.on("presence", ({ status: { uid, status } }) =>
      watcher.told.push({ uid, line: `${uid} ${status === "offline" ? "offline" : "online"}` }),
    );
    return watcher;
  }

  // hears waits for what is told of people whose uids begin alike, and compares all of it since it was last asked.
  async hears(prefix, ...expected) {
    const own = () => this.told.filter(({ uid }) => uid.startsWith(prefix)).map(({ line }) => line);
    await until(`${expected.join(", ")} is told of ${prefix}`, () => own().length >= expected.length, 40_000).catch(
      (error) => {
        throw new Error(`${error.message}: told was ${own().join(", ") || "nothing"}`);
      },
    );
    assert.deepEqual(own(), expected);
    this.told = this.told.filter(({ uid }) => !uid.startsWith(prefix));
  }

  // hearsNothing looks whether anything was told of people whose uids begin alike. Whoever comes now is told behind it.
  async hearsNothing(prefix) {
    const uid = `${prefix}-mark-${(this.marks = (this.marks ?? 0) + 1)}`;
    const mark = await connected(this.rollcall, uid, "none");
    try {
      await this.hears(prefix, `${uid} online`);
    } finally {
      mark.close();
    }
    await this.hears(prefix, `${uid} offline`);
  }

  close() {
    this.client.close();
  }
}

async function connected(rollcall, uid, subscribe) {
  await rollcall.createUser(uid).catch(() => {}); // it may be there already
  const client = new RollcallClient({
    appId: rollcall.appId,
    host: `http://${rollcall.http}`,
    storage: "memory",
    subscribe,
  });
  await client.login({ token: await rollcall.mint(uid) });
  await until(`${uid} is connected`, () => client.connectionState === "connected");
  return client;
}
