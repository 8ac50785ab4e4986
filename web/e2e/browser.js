// Debian's headless Chromium, and tabs that remember everything they do: a test says which refusals it provokes, and
// whatever else goes wrong in the page, in the console or on the network fails it.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { chromium } from "playwright-core";

import { Program } from "./program.js";
import { until } from "./wait.js";

const args = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

const executable = () => execFileSync("which", ["chromium"], { encoding: "utf8" }).trim();

export function launch() {
  return chromium.launch({ executablePath: executable(), args });
}

// A browser of a person: whichever tab is not in front is hidden, and its timers run once a minute soon after. The
// browsers that Playwright starts keep every page awake.
export class OneWindow {
  static async launch() {
    const window = new OneWindow();
    window.folder = await mkdtemp(join(tmpdir(), "rollcall-chromium-"));
    window.program = new Program(executable(), [
      ...args, "--headless=new", "--remote-debugging-port=0", `--user-data-dir=${window.folder}`,
      "--ignore-certificate-errors", "--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/0",
      "about:blank",
    ]);
    const address = await until("the browser can be reached", () => {
      window.program.mustRun();
      return window.program.stderr.match(/DevTools listening on (\S+)/)?.[1];
    });
    window.browser = await chromium.connectOverCDP(address, { noDefaults: true });
    [window.context] = window.browser.contexts();
    return window;
  }

  // hideAll opens another tab in front of all.
  async hideAll() {
    const front = await this.context.newPage();
    await front.bringToFront();
  }

  async close() {
    await this.browser?.close();
    await this.program.stop();
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

// What Chromium prints when the SDK logs out or starts anew while its socket still connects.
const givenUp = /^WebSocket connection to '[^']*' failed: WebSocket is closed before the connection is established\.$/;

// What Chromium prints about answers and failures that are remembered as such.
const repeated = "Failed to load resource: ";

export class Tab {
  // open returns a tab with storage of its own. Its clock stands still until a test moves it, so that no timer of the
  // page fires unasked, unless it is to run; beside another tab it shares its storage. Requests may only go to the given
  // hosts.
  static async open(browser, hosts, { clockRuns = false, beside } = {}) {
    const tab = new Tab();
    tab.context = beside?.context ?? (await browser.newContext({ ignoreHTTPSErrors: true }));
    tab.page = await tab.context.newPage();
    tab.watch(hosts);
    if (clockRuns) return tab;
    await tab.page.clock.install();
    await tab.page.clock.pauseAt(Date.now() + 60_000);
    return tab;
  }

  // calls are the requests so far, as "GET /path". Files of the page itself are not among them.
  calls = [];
  // refusals are the answers with an error status, as "404 GET /path". The path is without a version, since which one
  // the SDK uses depends on whether it holds settings at that moment.
  refusals = [];
  // failures are requests without an answer, as "GET https://host/path".
  failures = [];
  // problems are what no test expects.
  problems = [];
  // sockets are those of the page that are not closed, each with whether its auth frame was answered. frames are what came
  // on them, but for pongs.
  sockets = new Map();
  frames = [];
  // unanswered are the sockets that wait for a pong, and waiting are the requests that wait for an answer.
  unanswered = new Set();
  waiting = new Set();
  // pings is how many pings the page has sent on its sockets.
  pings = 0;

  watch(hosts) {
    this.page.on("request", (request) => this.noteRequest(request, hosts));
    this.page.on("response", (response) => this.noteResponse(response));
    this.page.on("requestfinished", (request) => this.waiting.delete(request));
    this.page.on("requestfailed", (request) => {
      this.waiting.delete(request);
      this.failures.push(`${request.method()} ${request.url()}`);
    });
    this.page.on("websocket", (socket) => this.noteSocket(socket, hosts));
    this.page.on("pageerror", (error) => this.noteError(error));
    this.page.on("console", (message) => {
      if (["error", "warning"].includes(message.type()) && !message.text().startsWith(repeated) && !givenUp.test(message.text())) {
        this.problems.push(`console ${message.type()}: ${message.text()}`);
      }
    });
  }

  noteRequest(request, hosts) {
    const url = new URL(request.url());
    if (url.protocol === "data:") return;
    if (!hosts.includes(url.host)) this.problems.push(`request to a foreign host: ${request.method()} ${request.url()}`);
    if (!["fetch", "xhr"].includes(request.resourceType())) return;
    this.waiting.add(request);
    this.calls.push(`${request.method()} ${url.pathname}${url.search}`);
  }

  noteResponse(response) {
    if (response.status() < 400) return;
    const path = new URL(response.url()).pathname.replace(/^\/v3\.0\//, "/");
    this.refusals.push(`${response.status()} ${response.request().method()} ${path}`);
  }

  noteSocket(socket, hosts) {
    if (!hosts.includes(new URL(socket.url()).host)) this.problems.push(`socket to a foreign host: ${socket.url()}`);
    this.sockets.set(socket, false);
    socket.on("framereceived", ({ payload }) => {
      const frame = JSON.parse(payload);
      if (frame.action === "pong") return this.unanswered.delete(socket);
      if (frame.type === "auth") this.sockets.set(socket, true);
      this.frames.push(frame);
    });
    socket.on("framesent", ({ payload }) => {
      if (JSON.parse(payload).action !== "ping") return;
      this.unanswered.add(socket);
      this.pings++;
    });
    for (const end of ["close", "socketerror"]) {
      socket.on(end, () => {
        this.sockets.delete(socket);
        this.unanswered.delete(socket);
      });
    }
  }

  noteError(error) {
    this.problems.push(`uncaught: ${error.stack}`);
  }

  // socketsReady waits until the page has a socket, and every one is authenticated.
  socketsReady() {
    return until("the sockets are authenticated", () => this.sockets.size > 0 && [...this.sockets.values()].every(Boolean));
  }

  // isIdle says that every request and ping is answered, and every socket authenticated, of which there is one.
  get isIdle() {
    const answered = this.waiting.size === 0 && this.unanswered.size === 0;
    return answered && this.sockets.size > 0 && [...this.sockets.values()].every(Boolean);
  }

  // takeCalls returns the calls since it was last asked, in order.
  takeCalls() {
    return this.calls.splice(0);
  }

  // expectRefusals says which refusals there are since it was last asked, in any order.
  async expectRefusals(...expected) {
    await until(`there are ${expected.length} refusals`, () => this.refusals.length >= expected.length);
    assert.deepEqual(this.refusals.splice(0).sort(), expected.sort(), "answers with an error status");
  }

  // expectFailures says which requests found nobody to answer since it was last asked, in any order.
  async expectFailures(...expected) {
    await until(`${expected.length} requests have failed`, () => this.failures.length >= expected.length);
    assert.deepEqual(this.failures.splice(0).sort(), expected.sort(), "requests without an answer");
  }

  // expectNoProblems fails when anything went wrong that the test has not asked for.
  expectNoProblems() {
    const { refusals, failures, problems } = this;
    assert.deepEqual({ refusals, failures, problems }, { refusals: [], failures: [], problems: [] }, "went wrong in the tab");
  }

  close() {
    return this.context.close();
  }
}
