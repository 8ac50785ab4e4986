import { Emitter } from "./events.js";
import type { UserFields } from "./user.js";
import { platformSocket, type Socket, type SocketConstructor } from "./websocket.js";

/** Whether there is a connection to the server over which presence is told. */
export type ConnectionState = "disconnected" | "connecting" | "connected";

/** How a device presents itself. */
export type DeviceStatus = "available" | "away" | "busy" | "invisible";

/** How a user presents itself to others. */
export interface PresenceStatus {
  uid: string;
  status: "available" | "away" | "busy" | "offline";
  /** What the user has set for now. */
  statusText?: string;
  /** In Unix seconds; absent when it is not to be known. */
  lastActiveAt?: number;
  /** The profile, where it was told. */
  user?: UserFields;
}

/** Whom a session hears of. */
export type Subscription = "all" | "friends" | "none" | { roles: string[] } | { uids: string[] };

/** What a device says of itself. */
export interface OwnStatus {
  status: DeviceStatus;
  statusText?: string;
  /** When the text ends, in Unix seconds. */
  expiresAt?: number;
}

/** Why a connection ended: the close code and the server's words (see docs/realtime.md). */
export interface Closed {
  code: number;
  reason: string;
}

/** @internal */
export interface ConnectionEvents {
  state: { state: ConnectionState; closed?: Closed };
  /** A user presents itself so. initial says that it was so before the session began. */
  presence: { status: PresenceStatus; initial: boolean };
}

/** @internal */
export interface ConnectionOptions {
  url: string;
  appId: string;
  deviceId: string;
  uid: string;
  subscription: Subscription;
  /** Returns a JWT, a fresh one when asked for. It rejects when there is none to be had now. */
  jwt(fresh: boolean): Promise<string>;
  webSocket: SocketConstructor | undefined;
}

interface Position {
  epoch: string;
  sequence: number;
}

interface Frame {
  type?: string;
  action?: string;
  body?: {
    code?: string;
    action?: string;
    timestamp?: number;
    sequence?: number;
    statusText?: string;
    user?: UserFields;
    complete?: boolean;
    last?: boolean;
    users?: PresenceStatus[];
    rollcall?: Position & { resumed: boolean; heartbeatSeconds: number };
  };
}

const firstBackOff = 500;
const longestBackOff = 20_000;
const pongWithin = 5_000;
const openWithin = 10_000;

// Codes after which another attempt would end alike: the client is wrong.
const hopeless = [1002, 1003, 1007, 1008, 1009];
const authFailed = 4001;
const revoked = 4003;

/** @internal A user's session on this device: one socket at a time, which comes back and goes on where it was. */
export class Connection extends Emitter<ConnectionEvents> {
  state: ConnectionState = "disconnected";
  /** Those who are online, as far as the session hears of them. */
  readonly online = new Map<string, PresenceStatus>();
  #options: ConnectionOptions;
  #socket: Socket | undefined;
  #wanted = false;
  #failures = 0;
  #freshJwt = false;
  #own: OwnStatus | undefined;
  #position: Position | undefined;
  #next: Position | undefined;
  #named: Set<string> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #retryNow = () => {
    if (this.#wanted && !this.#socket) this.#connect();
  };

  constructor(options: ConnectionOptions) {
    super();
    this.#options = options;
  }

  open(): void {
    if (this.#wanted) return;
    this.#wanted = true;
    globalThis.addEventListener?.("online", this.#retryNow);
    this.#connect();
  }

  close(): void {
    this.#wanted = false;
    globalThis.removeEventListener?.("online", this.#retryNow);
    this.#drop()?.close(1000, "client closed");
    this.#become("disconnected");
  }

  setStatus(own: OwnStatus): void {
    this.#own = own;
    if (this.state === "connected") this.#send({ type: "status", body: own });
  }

  subscribe(subscription: Subscription): void {
    this.#options = { ...this.#options, subscription };
    this.#position = undefined;
    if (!this.#wanted) return;
    this.#drop()?.close(1000, "other subscription");
    this.#connect();
  }

  #become(state: ConnectionState, closed?: Closed): void {
    if (this.state === state) return;
    this.state = state;
    this.emit("state", closed ? { state, closed } : { state });
  }

  /** Forgets the socket, if there is one, and returns it. */
  #drop(): Socket | undefined {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    if (socket) socket.onopen = socket.onmessage = socket.onclose = null;
    this.#socket = undefined;
    return socket;
  }

  async #connect(): Promise<void> {
    clearTimeout(this.#timer);
    this.#become("connecting");
    let socket: Socket;
    let auth: string;
    try {
      auth = await this.#options.jwt(this.#freshJwt);
      if (!this.#wanted || this.#socket) return;
      socket = new (this.#options.webSocket ?? platformSocket())(this.#options.url);
    } catch {
      if (this.#wanted && !this.#socket) this.#later({ code: 1006, reason: "" });
      return;
    }
    this.#socket = socket;
    socket.onopen = () => this.#authenticate(auth);
    socket.onmessage = ({ data }) => this.#take(JSON.parse(String(data)));
    socket.onclose = ({ code, reason }) => this.#ended({ code, reason });
    this.#timer = setTimeout(() => this.#giveUp(), openWithin);
  }

  #send(frame: object): void {
    this.#socket?.send(JSON.stringify(frame));
  }

  #authenticate(auth: string): void {
    const { appId, deviceId, uid, subscription } = this.#options;
    const whom =
      typeof subscription === "object"
        ? "roles" in subscription
          ? { presenceSubscription: "ROLES", roles: subscription.roles }
          : { presenceSubscription: "UIDS", uids: subscription.uids }
        : { all: { presenceSubscription: "ALL_USERS" }, friends: { presenceSubscription: "FRIENDS" }, none: {} }[subscription];
    const rollcall = {
      ...(this.#own && { status: this.#own.status }),
      ...(this.#position ? { resume: this.#position } : { snapshot: true }),
    };
    this.#send({ type: "auth", appId, deviceId, sender: uid, body: { auth, deviceId, ...whom, rollcall } });
  }

  #take(frame: Frame): void {
    const { type, body } = frame;
    if (frame.action === "pong") return this.#beat();
    if (type === "auth" && body?.rollcall) this.#welcome(body.rollcall);
    if (type === "presence" && body?.user) {
      if (this.#position && body.sequence) this.#position.sequence = body.sequence;
      const status = body.action === "online" ? "available" : (body.action as PresenceStatus["status"]);
      this.#tell({
        uid: body.user.uid, status, user: body.user, ...(body.statusText && { statusText: body.statusText }),
        ...(body.timestamp && { lastActiveAt: body.timestamp }),
      }, false);
    }
    if (type === "presence_snapshot" && body?.users) this.#snapshot(body.users, body.complete ?? false, body.last ?? true);
  }

  // The position stays where it was until the snapshot is complete that brings the session up to the new one.
  #welcome({ epoch, sequence, heartbeatSeconds }: Position & { heartbeatSeconds: number }): void {
    this.#failures = 0;
    this.#freshJwt = false;
    this.#next = { epoch, sequence };
    this.#named = undefined;
    this.#heartbeat = (heartbeatSeconds * 1000) / 3;
    this.#beat();
    if (this.#own) this.#send({ type: "status", body: this.#own });
    this.#become("connected");
  }

  #heartbeat = 0;

  // A pong, or the welcome, starts the wait for the next ping; a ping starts the wait for its pong.
  #beat(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#send({ action: "ping", ack: "true" });
      this.#timer = setTimeout(() => this.#giveUp(), pongWithin);
    }, this.#heartbeat);
  }

  #snapshot(users: PresenceStatus[], complete: boolean, last: boolean): void {
    const initial = !this.#position;
    if (complete) this.#named ??= new Set();
    for (const status of users) {
      this.#named?.add(status.uid);
      this.#tell(status, initial);
    }
    if (!last) return;
    if (complete) {
      for (const uid of [...this.online.keys()]) if (!this.#named?.has(uid)) this.#tell({ uid, status: "offline" }, initial);
      this.#named = undefined;
    }
    if (this.#next) this.#position = this.#next;
    this.#next = undefined;
  }

  #tell(status: PresenceStatus, initial: boolean): void {
    const before = this.online.get(status.uid);
    if (status.status === "offline") {
      if (before?.user && !status.user) status = { ...status, user: before.user };
      this.online.delete(status.uid);
      if (!before && initial) return;
    } else {
      this.online.set(status.uid, status);
      if (before && JSON.stringify(before) === JSON.stringify(status)) return;
    }
    this.emit("presence", { status, initial });
  }

  /** Ends a socket on which nothing comes back. */
  #giveUp(): void {
    const socket = this.#drop();
    this.#later({ code: 1006, reason: "no answer" });
    socket?.close();
  }

  #ended(closed: Closed): void {
    this.#drop();
    if ((closed.code === authFailed || closed.code === revoked) && !this.#freshJwt) {
      this.#freshJwt = true; // whoever has it says at once whether the session has ended
      this.#become("disconnected", closed);
      void this.#connect();
      return;
    }
    if (hopeless.includes(closed.code)) {
      this.#wanted = false;
      this.#become("disconnected", closed);
      return;
    }
    this.#later(closed);
  }

  #later(closed: Closed): void {
    this.#become("disconnected", closed);
    const most = Math.min(firstBackOff * 2 ** Math.min(this.#failures++, 10), longestBackOff);
    this.#timer = setTimeout(() => this.#connect(), most / 2 + (Math.random() * most) / 2);
  }
}
