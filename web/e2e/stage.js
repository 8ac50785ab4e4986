// What most browser tests stand on: a server, an app's site and a browser, for all tests of a file.
import { after, before } from "node:test";

import { launch } from "./browser.js";
import { Rollcall } from "./server.js";
import { Site } from "./site.js";

// setStage starts everything before the first test of the file, hands it to use, and stops it after the last.
export function setStage(use) {
  const stage = {};
  before(async () => {
    stage.rollcall = await Rollcall.start();
    stage.site = await Site.start();
    stage.browser = await launch();
    await use(stage);
  });
  after(async () => {
    await stage.browser?.close();
    await stage.site?.stop();
    await stage.rollcall?.stop();
  });
}
