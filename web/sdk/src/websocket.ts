// What is needed of a WebSocket, and one for Node 20, which has none of its own.

/** The part of the WebSocket API that is needed. */
export interface Socket {
  /** Is called when the connection is open. */
  onopen: (() => void) | null;
  /** Is called for every message. */
  onmessage: ((event: { data: unknown }) => void) | null;
  /** Is called once, when the connection has ended, for whatever reason. */
  onclose: ((event: { code: number; reason: string }) => void) | null;
  /** Sends a text. */
  send(text: string): void;
  /** Ends the connection. */
  close(code?: number, reason?: string): void;
}

/** Opens a socket at an address that begins with ws: or wss:. */
export type SocketConstructor = new (url: string) => Socket;

/** @internal The platform's WebSocket, or the one below. */
export function platformSocket(): SocketConstructor {
  return (globalThis.WebSocket as unknown as SocketConstructor | undefined) ?? NodeSocket;
}

interface Stream {
  on(event: string, listener: (data: Uint8Array) => void): void;
  write(data: Uint8Array): void;
  end(): void;
  destroy(): void;
  setNoDelay(on: boolean): void;
}

interface Request {
  on(event: string, listener: (response: { statusCode: number }, stream: Stream, head: Uint8Array) => void): void;
  end(): void;
  destroy(): void;
}

type RequestFunction = (url: URL, options: { headers: Record<string, string> }) => Request;

const enum Opcode {
  Continuation,
  Text,
  Close = 8,
  Ping,
  Pong,
}

/** A client's side of RFC 6455 over node:http, for text frames. */
class NodeSocket implements Socket {
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;
  #stream: Stream | undefined;
  #buffer = new Uint8Array(0);
  #message: Uint8Array[] = [];
  #closing: { code: number; reason: string } | undefined;
  #closed = false;
  readonly #request: Request;

  constructor(address: string) {
    const url = new URL(address.replace(/^ws/, "http"));
    const builtin = (globalThis as { process?: { getBuiltinModule?(name: string): { request: RequestFunction } } }).process?.getBuiltinModule;
    if (!builtin) throw new Error("There is no WebSocket here. Pass one as the option webSocket.");
    const key = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(16))));
    const headers = { connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13", "sec-websocket-key": key };
    this.#request = builtin(`node:${url.protocol.slice(0, -1)}`).request(url, { headers });
    this.#request.on("upgrade", (_, stream, head) => this.#open(stream, head));
    this.#request.on("response", () => this.#end(1006, "The server does not upgrade."));
    this.#request.on("error", () => this.#end(1006, "The server cannot be reached."));
    this.#request.end();
  }

  #open(stream: Stream, head: Uint8Array): void {
    if (this.#closed) return stream.destroy();
    this.#stream = stream;
    stream.setNoDelay(true);
    stream.on("data", (data) => this.#take(data));
    stream.on("error", () => {});
    stream.on("close", () => this.#end(this.#closing?.code ?? 1006, this.#closing?.reason ?? ""));
    this.onopen?.();
    if (head.length > 0) this.#take(head);
  }

  #end(code: number, reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#request.destroy();
    this.#stream?.destroy();
    this.onclose?.({ code, reason });
  }

  send(text: string): void {
    this.#write(Opcode.Text, new TextEncoder().encode(text));
  }

  close(code = 1000, reason = ""): void {
    if (!this.#stream) return this.#end(1006, "");
    this.#closing ??= { code, reason };
    const body = new TextEncoder().encode(`  ${reason}`);
    new DataView(body.buffer).setUint16(0, code);
    this.#write(Opcode.Close, body);
    setTimeout(() => this.#end(code, reason), 2000); // for a server that does not answer
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
    const joined = new Uint8Array(this.#buffer.length + data.length);
    joined.set(this.#buffer);
    joined.set(data, this.#buffer.length);
    let at = 0;
    for (;;) {
      const view = new DataView(joined.buffer, at);
      if (view.byteLength < 2) break;
      const short = view.getUint8(1) & 0x7f;
      const head = short === 127 ? 10 : short === 126 ? 4 : 2;
      if (view.byteLength < head) break;
      const length = short === 127 ? Number(view.getBigUint64(2)) : short === 126 ? view.getUint16(2) : short;
      if (view.byteLength < head + length) break;
      this.#frame(view.getUint8(0), joined.subarray(at + head, at + head + length));
      at += head + length;
    }
    this.#buffer = joined.slice(at);
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
