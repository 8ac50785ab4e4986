// An app's own web site, on another origin than the server: one page, and the official SDK as npm delivers it.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";

import { listen } from "./program.js";

const page = `<!doctype html>
<html lang="en">
<title>SDK under test</title>
<link rel="icon" href="data:,">
<script src="/sdk.js"></script>
`;

export const sdkFile = createRequire(import.meta.url).resolve("@cometchat/chat-sdk-javascript");

export class Site {
  static async start() {
    const files = {
      "/": { type: "text/html; charset=utf-8", body: page },
      "/sdk.js": { type: "text/javascript; charset=utf-8", body: await readFile(sdkFile) },
    };
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
