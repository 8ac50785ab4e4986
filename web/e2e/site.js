// An app's own web site, on another origin than the server: a page with the official SDK as npm delivers it, one with
// ours under its name, and one for each of the official clients.
import { readFile, readdir } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

import { builds } from "./builds.js";
import { listen } from "./program.js";

const pageOf = (key) => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>SDK under test</title>
<link rel="icon" href="data:,">
<body><script src="/${key}.js"></script>
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

const html = (body) => ({ type: "text/html; charset=utf-8", body });
const javascript = (body) => ({ type: "text/javascript; charset=utf-8", body });

export class Site {
  // start serves the page of the official SDK at /, that of ours at /rollcall, and those of the official clients
  // under their keys.
  static async start() {
    const site = new Site();
    site.files = new Map([["/", html(pageOf(builds[0].key))], ["/rollcall", html(ours)]]);
    const folder = dirname(createRequire(import.meta.url).resolve("@rollcall/sdk")).replace(/cjs$/, "esm");
    for (const name of (await readdir(folder)).filter((name) => name.endsWith(".js"))) {
      site.files.set(`/rollcall/${name}`, javascript(await readFile(join(folder, name))));
    }
    await site.add(builds[0]);
    site.server = createServer((request, response) => {
      const file = site.files.get(request.url);
      response.writeHead(file ? 200 : 404, file && { "content-type": file.type });
      response.end(file?.body);
    });
    site.host = await listen(site.server);
    return site;
  }

  // add serves the page of one of the official clients.
  async add({ key, load }) {
    this.files.set(`/${key}`, html(pageOf(key)));
    this.files.set(`/${key}.js`, javascript(await load()));
  }

  stop() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}
