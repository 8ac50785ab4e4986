// What is needed of a WebSocket, and one for Node 20, which has none of its own.
import { unanswered } from "./failure.js";

/** The part of the WebSocket API that is needed. The handlers take the events of any platform's. */
export interface Socket {
  /** Is called when the connection is open. */
  onopen: ((event: any) => void) | null;
  /** Is called for every message. */
  onmessage: ((event: any) => void) | null;
  /** Is called once, when the connection has ended, for whatever reason. */
  onclose: ((event: any) => void) | null;
  /** Sends a text. */
  send(text: string): void;
  /** Ends the connection. */
  close(code?: number, reason?: string): void;
}

/** Opens a socket at an address that begins with ws: or wss:. */
export type SocketConstructor = new (url: string) => Socket;

/** @internal The platform's WebSocket, or the one below. */
export function platformSocket(): SocketConstructor {
  return (globalThis.WebSocket as SocketConstructor | undefined) ?? NodeSocket;
}

interface Stream {
  on(event: string, listener: (data: Uint8Array) => void): void;
  write(data: Uint8Array): void;
  end(): void;
  destroy(): void;
  setNoDelay(on: boolean): void;
}

interface Request {
  on(event: "error", listener: (error: Error) => void): void;
  on(event: string, listener: (response: { headers: Record<string, string> }, stream: Stream, head: Uint8Array) => void): void;
  end(): void;
  destroy(): void;
}

interface Builtin {
  request(url: URL, options: { headers: Record<string, string> }): Request;
  createHash(name: string): { update(text: string): { digest(encoding: string): string } };
}

const enum Opcode {
  Continuation,
  Text,
  Close = 8,
  Ping,
  Pong,
}

const longestMessage = 64 << 20;

/** A client's side of RFC 6455 over node:http, for text frames. */
class NodeSocket implements Socket {
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;
  #stream: Stream | undefined;
  #chunks: Uint8Array[] = [];
  #size = 0;
  #needed = 2;
  #message: Uint8Array[] = [];
  #closing: { code: number; reason: string } | undefined;
  #closed = false;
  #patience: ReturnType<typeof setTimeout> | undefined;
  readonly #request: Request;

  constructor(address: string) {
    const url = new URL(address.replace(/^ws/, "http"));
    const builtin = (globalThis as { process?: { getBuiltinModule?(name: string): Builtin } }).process?.getBuiltinModule;
    if (!builtin) throw new Error("There is no WebSocket here. Pass one as the option webSocket.");
    const key = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(16))));
    const headers = { connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13", "sec-websocket-key": key };
    this.#request = builtin(`node:${url.protocol.slice(0, -1)}`).request(url, { headers });
    const accept = builtin("node:crypto").createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
    this.#request.on("upgrade", ({ headers }, stream, head) => {
      if (headers["sec-websocket-accept"] === accept) return this.#open(stream, head);
      stream.destroy();
      this.#end(1006, "The server does not upgrade.");
    });
    this.#request.on("response", () => this.#end(1006, "The server does not upgrade."));
    this.#request.on("error", (error) => this.#end(1006, unanswered(error, url.origin).message));
    this.#request.end();
  }

  #open(stream: Stream, head: Uint8Array): void {
    if (this.#closed) return stream.destroy();
    this.#stream = stream;
    stream.setNoDelay(true);
    stream.on("data", (data) => this.#take(data));
    stream.on("error", () => {});
    stream.on("close", () => this.#end(this.#closing?.code ?? 1006, this.#closing?.reason ?? ""));
    this.onopen?.({});
    if (head.length > 0) this.#take(head);
  }

  #end(code: number, reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#patience);
    this.#request.destroy();
    this.#stream?.destroy();
    this.onclose?.({ code, reason });
  }

  send(text: string): void {
    this.#write(Opcode.Text, new TextEncoder().encode(text));
  }

  close(code?: number, reason = ""): void {
    if (!this.#stream) return this.#end(1006, "");
    const closing = (this.#closing ??= { code: code ?? 1005, reason });
    const body = new TextEncoder().encode(code === undefined ? "" : `  ${reason}`);
    if (code !== undefined) new DataView(body.buffer).setUint16(0, code);
    this.#write(Opcode.Close, body);
    const give = () => this.#end(closing.code, closing.reason);
    this.#patience = setTimeout(give, 2000); // for a server that does not answer
  }

  #write(opcode: Opcode, body: Uint8Array): void {
    if (this.#closed || !this.#stream) return;
    const long = body.length > 0xffff ? 8 : body.length > 125 ? 2 : 0;
    const frame = new Uint8Array(6 + long + body.length);
    const view = new DataView(frame.buffer);
    frame[0] = 0x80 | opcode;
    frame[1] = 0x80 | (long === 8 ? 127 : long === 2 ? 126 : body.length);
    if (long === 8) view.setBigUint64(2, BigInt(body.length));
    if (long === 2) view.setUint16(2, body.length);
    const mask = crypto.getRandomValues(frame.subarray(2 + long, 6 + long));
    for (let i = 0; i < body.length; i++) frame[6 + long + i] = body[i]! ^ mask[i % 4]!;
    this.#stream.write(frame);
  }

  #take(data: Uint8Array): void {
    this.#chunks.push(data);
    this.#size += data.length;
    if (this.#size < this.#needed) return;
    const joined = new Uint8Array(this.#size);
    let at = 0;
    for (const chunk of this.#chunks) {
      joined.set(chunk, at);
      at += chunk.length;
    }
    for (at = 0; ; ) {
      const view = new DataView(joined.buffer, at);
      const short = view.byteLength < 2 ? 0 : view.getUint8(1) & 0x7f;
      this.#needed = short === 127 ? 10 : short === 126 ? 4 : 2;
      if (view.byteLength < this.#needed) break;
      const head = this.#needed;
      const length = short === 127 ? Number(view.getBigUint64(2)) : short === 126 ? view.getUint16(2) : short;
      if (length > longestMessage) return this.close(1009, "too long");
      this.#needed = head + length;
      if (view.byteLength < this.#needed) break;
      this.#frame(view.getUint8(0), joined.subarray(at + head, at + this.#needed));
      at += this.#needed;
    }
    this.#chunks = [joined.slice(at)];
    this.#size = joined.length - at;
  }

  #frame(first: number, body: Uint8Array): void {
    const opcode: Opcode = first & 0x0f;
    if (opcode === Opcode.Ping) return this.#write(Opcode.Pong, body);
    if (opcode === Opcode.Close) {
      const code = body.length < 2 ? 1005 : new DataView(body.buffer, body.byteOffset).getUint16(0);
      if (!this.#closing) this.#write(Opcode.Close, body);
      this.#closing ??= { code, reason: new TextDecoder().decode(body.subarray(2)) };
      this.#stream?.end();
      return;
    }
    if (opcode !== Opcode.Text && opcode !== Opcode.Continuation) return;
    this.#message.push(body);
    if (!(first & 0x80)) return;
    const decoder = new TextDecoder();
    const text = this.#message.map((part, i, all) => decoder.decode(part, { stream: i < all.length - 1 })).join("");
    this.#message = [];
    this.onmessage?.({ data: text });
  }
}
