// A proxy between a client and the server that can stall, or go silent: connections stay open, and nothing passes any
// more.
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
        const passes = () => !proxy.silent && !(proxy.mute && from === far);
        from.on("data", (data) => passes() && to.write(data));
        from.on("close", () => passes() && to.destroy());
        from.on("error", () => {}); // its end is told to the other side above
        if (proxy.held) from.pause();
      }
    });
    proxy.host = await listen(proxy.server);
    return proxy;
  }

  // silence lets nothing pass any more, not even that a connection was closed.
  silence() {
    this.silent = true;
  }

  // muteServer lets nothing pass any more that comes from the server.
  muteServer() {
    this.mute = true;
  }

  // hold keeps back what comes from either side, new connections included, and release lets it go on its way.
  hold() {
    this.held = true;
    for (const connection of this.connections) connection.pause();
  }

  release() {
    this.held = false;
    for (const connection of this.connections) connection.resume();
  }

  // refuse takes no other connection until mend is called.
  refuse() {
    this.down = true;
  }

  // cut breaks every connection as well.
  cut() {
    this.refuse();
    this.end();
  }

  // mend ends what silence, muteServer, refuse or cut began. Connections that have fallen silent do not come back.
  mend() {
    this.down = this.silent = this.mute = false;
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
