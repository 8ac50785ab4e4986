// The sign-up example: its real binary with a database of its own, and its page as a visitor sees it.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Tab } from "./browser.js";
import { Program, buildGo, repository } from "./program.js";
import { sdkFile } from "./site.js";

// What differs between the SDKs that the page can use: how it names the server, and whether it begins with a ping.
const sdks = {
  official: { file: sdkFile, address: (rollcall) => rollcall.https, pings: true },
  rollcall: { file: join(repository, "web/sdk/dist/rollcall.js"), address: (rollcall) => `http://${rollcall.http}`, pings: false },
};
import { until } from "./wait.js";

export class Signup {
  // start builds the example and runs it next to a Rollcall server, with one SDK or the other.
  static async start(rollcall, sdk) {
    const signup = new Signup();
    Object.assign(signup, sdks[sdk]);
    // chatURL is where the page calls Rollcall.
    signup.chatURL = sdk === "official" ? `https://${rollcall.https}` : `http://${rollcall.http}`;
    signup.folder = await mkdtemp(join(tmpdir(), "signup-e2e-"));
    const binary = await buildGo("examples/signup", signup.folder);
    signup.program = new Program(binary, [
      "--listen", "127.0.0.1:0", "--rollcall", `http://${rollcall.http}`, "--rollcall-browser", signup.address(rollcall),
      "--credentials", rollcall.credentialsFile, "--db", join(signup.folder, "signup.db"), "--sdk", sdk, "--sdk-file", signup.file,
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
  static async arrive(browser, signup) {
    const visitor = new Visitor();
    visitor.signup = signup;
    visitor.tab = await Tab.open(browser, [signup.host, new URL(signup.chatURL).host]);
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

  // getsIn does what opens the chat of somebody with that name, and returns the chat user's uid. The official SDK begins
  // with a ping; its answer is awaited, since it would meet whatever a test does next.
  async getsIn(name, action) {
    const pinged = this.signup.pings && this.page.waitForResponse((response) => new URL(response.url()).pathname.endsWith("/ping"));
    await Promise.all([action(), pinged && pinged.then((response) => response.finished())]);
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
