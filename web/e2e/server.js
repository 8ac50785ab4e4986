// The Rollcall server under test: the real binary on a data directory of its own, and REST calls to look into it.
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Program, buildGo, repository } from "./program.js";
import { until } from "./wait.js";

// ROLLCALL_BIN names another build than the one that `make build` leaves.
const binary = process.env.ROLLCALL_BIN ?? join(repository, "bin/rollcall");

export class Rollcall {
  // start makes a data directory and runs the server on free ports; with a clock that moves, advance moves it.
  static async start({ clock = false } = {}) {
    const rollcall = new Rollcall();
    rollcall.data = await mkdtemp(join(tmpdir(), "rollcall-e2e-"));
    rollcall.clock = clock;
    rollcall.credentialsFile = join(rollcall.data, "credentials.json");
    try {
      await rollcall.run("127.0.0.1:0", "127.0.0.1:0");
    } catch (error) {
      await rollcall.stop();
      throw error;
    }
    const { appId, restApiKey, authKey } = JSON.parse(await readFile(rollcall.credentialsFile, "utf8"));
    Object.assign(rollcall, { appId, restApiKey, authKey });
    return rollcall;
  }

  async run(http, https) {
    const args = ["serve", "--data", this.data, "--http", http, "--https", https, "--log-format", "json"];
    this.program = this.clock ? await this.startWithClock() : new Program(binary, args);
    const printed = (scheme) => this.program.stdout.match(new RegExp(` ${scheme}://(127\\.0\\.0\\.1:\\d+)`))?.[1];
    await until("the server prints its addresses", () => {
      this.program.mustRun();
      return printed("http") && printed("https");
    });
    this.http = printed("http");
    this.https = printed("https");
    await until("/readyz answers 200", async () => {
      this.program.mustRun();
      return (await fetch(`http://${this.http}/readyz`).catch(() => undefined))?.ok;
    });
  }

  // startWithClock runs the same server in a program that moves its clock. Its input is open for as long as it runs.
  async startWithClock() {
    this.tools = await mkdtemp(join(tmpdir(), "rollcall-clock-"));
    const program = await buildGo("internal/apitest/clockserver", this.tools);
    return new Program(program, [this.data], { stdio: ["pipe", "pipe", "pipe"] });
  }

  // advance moves the clock of the server, and with it the age of everything that was issued. Presence and its grace
  // go on by the time that really passes.
  async advance(seconds) {
    const moves = () => this.program.stdout.split("moved").length;
    const before = moves();
    this.program.child.stdin.write(`${seconds}\n`);
    await until("the clock has moved", () => {
      this.program.mustRun();
      return moves() > before;
    });
  }

  // pause stops the server; resume starts it again on the same data and addresses.
  pause() {
    return this.program.stop();
  }

  resume() {
    return this.run(this.http, this.https);
  }

  // stop ends the server, and fails when it had logged a fault of its own.
  async stop() {
    await this.program.stop();
    for (const folder of [this.data, this.tools]) if (folder) await rm(folder, { recursive: true, force: true });
    const faults = this.program.stderr.split("\n").filter((line) => line.includes('"level":"ERROR"'));
    assert.deepEqual(faults, [], "the server logged faults");
  }

  // call makes a REST call with the fullAccess key and returns the whole answer.
  async call(method, path, body) {
    const response = await fetch(`http://${this.http}/v3${path}`, {
      method,
      headers: { appId: this.appId, apikey: this.restApiKey, ...(body && { "content-type": "application/json" }) },
      body: body && JSON.stringify(body),
    });
    return { status: response.status, ...(await response.json()) };
  }

  // rest makes a REST call that must succeed and returns its data.
  async rest(method, path, body) {
    const answer = await this.call(method, path, body);
    assert.equal(answer.status, 200, `${method} ${path}: ${JSON.stringify(answer.error)}`);
    return answer.data;
  }

  user(uid) {
    return this.rest("GET", `/users/${uid}`);
  }

  createUser(uid, fields) {
    return this.rest("POST", "/users", { uid, name: uid, ...fields });
  }

  // mint returns the text of a new auth token.
  async mint(uid) {
    return (await this.rest("POST", `/users/${uid}/auth_tokens`)).authToken;
  }

  // tokens returns a user's auth tokens, each with what comes beside it in meta.
  async tokens(uid) {
    const { data, meta } = await this.call("GET", `/users/${uid}/auth_tokens`);
    return data.map((token, i) => ({ ...token, ...meta.items[i] }));
  }
}
