// The sign-up example: its real binary with a database of its own, and its page as a visitor sees it.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Tab } from "./browser.js";
import { Program, repository, run } from "./program.js";
import { sdkFile } from "./site.js";
import { until } from "./wait.js";

export class Signup {
  // start builds the example and runs it next to a Rollcall server.
  static async start(rollcall) {
    const signup = new Signup();
    signup.folder = await mkdtemp(join(tmpdir(), "signup-e2e-"));
    const binary = join(signup.folder, "signup");
    await run("go", ["build", "-o", binary, "./examples/signup"], { cwd: repository });
    signup.program = new Program(binary, [
      "--listen", "127.0.0.1:0", "--rollcall", `http://${rollcall.http}`, "--rollcall-browser", rollcall.https,
      "--credentials", rollcall.credentialsFile, "--db", join(signup.folder, "signup.db"), "--sdk", sdkFile,
    ]);
    signup.url = await until("the example serves", () => {
      signup.program.mustRun();
      return signup.program.stderr.match(/url=(\S+)/)?.[1];
    });
    signup.host = new URL(signup.url).host;
    return signup;
  }

  async stop() {
    await this.program.stop();
    await rm(this.folder, { recursive: true, force: true });
    const faults = this.program.stderr.split("\n").filter((line) => line.includes("level=ERROR"));
    assert.deepEqual(faults, [], "the example logged faults");
  }
}

export class Visitor {
  static async arrive(browser, signup, rollcall) {
    const visitor = new Visitor();
    visitor.tab = await Tab.open(browser, [signup.host, rollcall.https]);
    visitor.page = visitor.tab.page;
    await visitor.page.goto(signup.url);
    return visitor;
  }

  // region is one of the cards of the page. Only one is visible at a time.
  region(name) {
    return this.page.getByRole("region", { name, exact: true });
  }

  async fill(region, fields) {
    for (const [label, value] of Object.entries(fields)) await this.region(region).getByLabel(label).fill(value);
  }

  press(region, button) {
    return this.region(region).getByRole("button", { name: button, exact: true }).click();
  }

  sees(text) {
    return this.page.getByText(text).locator("visible=true").waitFor();
  }

  // register fills in the registration form and sends it.
  async register({ name, email, password }) {
    await this.press("Log in", "Create an account");
    await this.fill("Create an account", { Name: name, "E-mail": email, Password: password });
    await this.press("Create an account", "Create account");
  }

  async logIn({ email, password }) {
    await this.fill("Log in", { "E-mail": email, Password: password });
    await this.press("Log in", "Log in");
  }

  // getsIn does what opens the chat of somebody with that name, and returns the chat user's uid. The SDK begins with a
  // ping; its answer is awaited, since it would meet whatever a test does next.
  async getsIn(name, action) {
    const answered = this.page.waitForResponse((response) => new URL(response.url()).pathname.endsWith("/ping"));
    await Promise.all([action(), answered.then((response) => response.finished())]);
    await this.region(name).waitFor();
    return this.region(name).getByRole("code").textContent();
  }

  // enter registers and logs in somebody new, and returns the chat user's uid.
  async enter(person) {
    await this.register(person);
    await this.sees("Your account is ready");
    return this.getsIn(person.name, () => this.logIn(person));
  }

  close() {
    return this.tab.close();
  }
}
