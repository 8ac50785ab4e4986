// An app's own web site, on another origin than the server: a page with the official SDK as npm delivers it, and one with
// ours under its name.
import { readFile, readdir } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

import { listen } from "./program.js";

const page = `<!doctype html>
<html lang="en">
<title>SDK under test</title>
<link rel="icon" href="data:,">
<script src="/sdk.js"></script>
`;

const ours = `<!doctype html>
<html lang="en">
<title>SDK under test</title>
<link rel="icon" href="data:,">
<script type="module">
import { Rollcall } from "/rollcall/index.js";
window.CometChat = Rollcall;
</script>
`;

export const sdkFile = createRequire(import.meta.url).resolve("@cometchat/chat-sdk-javascript");

export class Site {
  static async start() {
    const files = {
      "/": { type: "text/html; charset=utf-8", body: page },
      "/sdk.js": { type: "text/javascript; charset=utf-8", body: await readFile(sdkFile) },
    };
    files["/rollcall"] = { type: "text/html; charset=utf-8", body: ours };
    const folder = dirname(createRequire(import.meta.url).resolve("@rollcall/sdk")).replace(/cjs$/, "esm");
    for (const name of (await readdir(folder)).filter((name) => name.endsWith(".js"))) {
      files[`/rollcall/${name}`] = { type: "text/javascript; charset=utf-8", body: await readFile(join(folder, name)) };
    }
    const site = new Site();
    site.server = createServer((request, response) => {
      const file = files[request.url];
      response.writeHead(file ? 200 : 404, file && { "content-type": file.type });
      response.end(file?.body);
    });
    site.host = await listen(site.server);
    return site;
  }

  stop() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}
