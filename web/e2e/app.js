// An app on the official SDK, or on ours under its name: a page in a tab, whose SDK the tests call.
import { Tab } from "./browser.js";
import { until } from "./wait.js";

export class App {
  // path says which page, and with it which SDK; options are those of Tab.open.
  static async open(browser, site, rollcall, hosts = [], path = "/", options = {}) {
    const app = new App();
    app.rollcall = rollcall;
    app.pings = path !== "/rollcall";
    app.tab = await Tab.open(browser, [site.host, rollcall.https, ...hosts], options);
    app.page = app.tab.page;
    await app.page.goto(`http://${site.host}${path}`, { timeout: 60_000 });
    await app.page.waitForFunction(() => window.CometChat);
    return app;
  }

  // sdk runs a function in the page and returns what it resolves to, as JSON has it. What it throws is thrown here,
  // with the code, name, message and details of a CometChatException. The function can use only its one argument and
  // what the page has.
  async sdk(work, argument) {
    const { value, failure } = await this.page.evaluate(
      async ([source, argument]) => {
        try {
          const value = await (0, eval)(`(${source})`)(argument);
          return { value: JSON.parse(JSON.stringify(value ?? null)) };
        } catch (error) {
          const { code, name, message, details } = error;
          return { failure: { code, name, message, details } };
        }
      },
      [work.toString(), argument],
    );
    if (failure) throw Object.assign(new Error(failure.message), failure);
    return value;
  }

  // init does what an app does when its page has loaded. What its listeners are told is collected: of logins in events, of
  // the socket in connections, and of other users in presence. subscribe is the name of a setter of AppSettingsBuilder with
  // its arguments.
  init({ appId, host, subscribe = this.subscribe, autoConnect = true } = {}) {
    this.subscribe = subscribe;
    return this.sdk(
      async ({ appId, host, subscribe, autoConnect }) => {
        const { AppSettingsBuilder, LoginListener, ConnectionListener, UserListener } = CometChat;
        Object.assign(window, { events: [], connections: [], presence: [] });
        const note = (event) => (detail) => events.push(detail?.code ? `${event} ${detail.code}` : event);
        CometChat.addLoginListener(
          "test",
          new LoginListener({
            loginSuccess: note("loginSuccess"),
            loginFailure: note("loginFailure"),
            logoutSuccess: note("logoutSuccess"),
          }),
        );
        CometChat.addConnectionListener(
          "test",
          new ConnectionListener({
            onConnected: () => connections.push("onConnected"),
            inConnecting: () => connections.push("inConnecting"),
            onDisconnected: () => connections.push("onDisconnected"),
          }),
        );
        const hear = (user) => presence.push({ uid: user.getUid(), name: user.getName(), status: user.getStatus(), lastActiveAt: user.getLastActiveAt() });
        CometChat.addUserListener("test", new UserListener({ onUserOnline: hear, onUserOffline: hear }));
        const settings = new AppSettingsBuilder().setRegion("us").overrideAdminHost(host).overrideClientHost(host);
        if (subscribe) settings[subscribe[0]](...subscribe.slice(1));
        if (!autoConnect) settings.autoEstablishSocketConnection(false);
        return CometChat.init(appId, settings.build());
      },
      { appId: appId ?? this.rollcall.appId, host: host ?? this.rollcall.https, subscribe, autoConnect },
    );
  }

  // fresh loads the page as one that was never there.
  async fresh() {
    await this.page.evaluate(() => [localStorage, sessionStorage].forEach((storage) => storage.clear()));
    await this.page.reload();
    await this.page.waitForFunction(() => window.CometChat);
  }

  // reload loads the page again and initializes the SDK, which finds its session in the page's storage.
  async reload() {
    this.tab.sockets.clear(); // a page that goes takes its sockets with it, and nobody is told
    await this.page.reload();
    await this.page.waitForFunction(() => window.CometChat);
    await this.afterLogin(() => this.init());
  }

  // login logs in with a uid and the auth key, or with a token, and waits for the ping that follows.
  login(...credentials) {
    return this.afterLogin(() => this.sdk((credentials) => CometChat.login(...credentials), credentials));
  }

  // loginAs logs in with a uid and the auth key.
  loginAs(uid) {
    return this.login(uid, this.rollcall.authKey);
  }

  // afterLogin does what opens the sockets, and waits for them, and for the ping that the official SDK sends.
  async afterLogin(work) {
    if (this.pings) return this.afterPing(work);
    const result = await work();
    await this.tab.socketsReady();
    return result;
  }

  // afterPing does what makes the SDK start to ping, and returns when its first ping is answered and that answer has
  // been taken. A ping still on its way would meet whatever a test does next.
  async afterPing(work) {
    const answered = this.page.waitForResponse((response) => new URL(response.url()).pathname.endsWith("/ping"));
    const [result] = await Promise.all([work(), answered.then((response) => response.finished())]);
    await this.tab.socketsReady();
    return result;
  }

  // passPing moves the page's clock to where the SDK pings, and returns when that is answered and the sockets are back: a
  // pong that took longer than the SDK waits, in the page's time, has cost it its socket, which it opens again 5 s later.
  async passPing() {
    const answered = this.page.waitForResponse((response) => new URL(response.url()).pathname.endsWith("/ping"));
    await this.pass(60);
    await (await answered).finished();
    if (this.tab.sockets.size === 0) await Promise.all([this.page.waitForEvent("websocket"), this.pass(5)]);
    await this.tab.socketsReady();
  }

  loggedInUser() {
    return this.sdk(() => CometChat.getLoggedinUser());
  }

  // takeEvents returns what the listeners were told since it was last asked.
  takeEvents() {
    return this.sdk(() => events.splice(0));
  }

  // pass moves the page's clock, firing the timers on the way.
  pass(seconds) {
    return this.page.clock.runFor(seconds * 1000);
  }

  // leap moves the page's clock at once, as if its machine had slept: every timer that is due fires once. It returns
  // when what that began is over.
  async leap(seconds) {
    await this.page.clock.fastForward(seconds * 1000);
    await until("the page has nothing under way", async () => {
      if (this.tab.sockets.size === 0) await this.pass(1); // the SDK waits before it connects again
      return this.tab.isIdle;
    });
  }

  // passUntil moves the page's clock second by second, for as long as it may take, until a check returns something
  // truthy.
  async passUntil(what, check, seconds) {
    for (let passed = 0; passed < seconds; passed++) {
      if (await check()) return;
      await this.pass(1);
    }
    await until(what, check);
  }

  // passReport moves the page's clock to where the SDK has reported its device, as it does 5 s after a login, and
  // returns the answer.
  async passReport() {
    const answered = this.page.waitForResponse("**/user_sessions");
    await this.pass(6);
    const answer = await answered;
    await answer.finished();
    return answer;
  }

  close() {
    return this.tab.close();
  }
}
