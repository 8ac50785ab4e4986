// A proxy between a browser and the server that can go silent: connections stay open, and nothing passes any more.
import { connect, createServer } from "node:net";

import { listen } from "./program.js";

export class Proxy {
  static async start(target) {
    const proxy = new Proxy();
    const [host, port] = target.split(":");
    proxy.connections = new Set();
    proxy.server = createServer((near) => {
      if (proxy.down) return near.destroy();
      const far = connect(Number(port), host);
      for (const [from, to] of [[near, far], [far, near]]) {
        proxy.connections.add(from);
        from.on("data", (data) => proxy.silent || to.write(data));
        from.on("close", () => proxy.silent || to.destroy());
        from.on("error", () => {}); // its end is told to the other side above
      }
    });
    proxy.host = await listen(proxy.server);
    return proxy;
  }

  // silence lets nothing pass any more, not even that a connection was closed.
  silence() {
    this.silent = true;
  }

  // cut breaks every connection, and takes no other until mend is called.
  cut() {
    this.down = true;
    this.end();
  }

  // mend ends what silence or cut began. Connections that have fallen silent do not come back.
  mend() {
    this.down = this.silent = false;
    this.end();
  }

  end() {
    for (const connection of this.connections) connection.destroy();
    this.connections.clear();
  }

  stop() {
    this.end();
    return new Promise((resolve) => this.server.close(resolve));
  }
}
