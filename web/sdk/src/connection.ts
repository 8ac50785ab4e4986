import { Emitter } from "./events.js";
import { User, type UserFields } from "./user.js";
import { platformSocket, type Socket, type SocketConstructor } from "./websocket.js";

/** Whether there is a connection to the server over which presence is told. */
export type ConnectionState = "disconnected" | "connecting" | "connected";

/** How a device presents itself. */
export type DeviceStatus = "online" | "away" | "busy" | "invisible";

/** How a user presents itself to others. */
export interface PresenceStatus {
  uid: string;
  /** Who is `away` or `busy` is there as well: a `User` has the status `online` then. */
  status: "online" | "away" | "busy" | "offline";
  /** What the user has set for now. */
  statusText?: string;
  /** In Unix seconds; absent when it is not to be known. */
  lastActiveAt?: number;
  /** The profile, where it was told. */
  user?: User;
}

/** @internal How the server tells of a presence: it says `available` where this library says `online`. */
export interface PresenceFields extends Omit<PresenceStatus, "status" | "user"> {
  status: string;
  user?: UserFields;
}

/** @internal */
export function presenceOf({ status, user, ...fields }: PresenceFields): PresenceStatus {
  const word = (status === "available" ? "online" : status) as PresenceStatus["status"];
  return { ...fields, status: word, ...(user && { user: new User(user) }) };
}

// What a device says of itself in the server's words, and in whole seconds.
const wireStatus = ({ status, expiresAt, ...own }: OwnStatus) => ({
  ...own, status: status === "online" ? "available" : status, ...(expiresAt && { expiresAt: Math.floor(expiresAt) }),
});

/** Whom a session hears of. */
export type Subscription = "all" | "friends" | "none" | { roles: string[] } | { uids: string[] };

/** What a device says of itself. */
export interface OwnStatus {
  status: DeviceStatus;
  statusText?: string;
  /** When both go back to what was set before without an end, in Unix seconds. */
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
  /** Everybody in the subscription who is online has been told. */
  complete: undefined;
  /** It is connected; updatedAt is when the user itself was last changed. */
  welcome: { updatedAt: number | undefined };
  /** Something has happened to the user itself. */
  change: OwnChange;
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

/** @internal What a change frame tells a user of itself. */
export interface OwnChange {
  kind?: string;
  subject?: string;
  object?: string;
  user?: UserFields;
}

interface Position {
  epoch: string;
  sequence: number;
}

interface Frame {
  type?: string;
  action?: string;
  body?: OwnChange & {
    code?: string;
    message?: string;
    action?: string;
    timestamp?: number;
    sequence?: number;
    statusText?: string;
    complete?: boolean;
    last?: boolean;
    users?: PresenceFields[];
    rollcall?: Position & { resumed: boolean; heartbeatSeconds: number; updatedAt?: number };
  };
}

const firstBackOff = 500;
const longestBackOff = 20_000;
const pongWithin = 5_000;
// How long an attempt may take until it is welcomed.
const welcomeWithin = 15_000;
// How long a connection must have lasted for the next attempt to come soon.
const steadyAfter = 5_000;

// Codes after which another attempt would end alike: the client is wrong.
const hopeless = [1002, 1003, 1007, 1008, 1009];
const authFailed = 4001;
const revoked = 4003;
// With this the client ends a socket in order to come back. Nobody is told, unless it stays away.
// 1000 would say that the user leaves.
const comingBack = 4100;

/** @internal A user's session on this device: one socket at a time, which comes back and goes on where it was. */
export class Connection extends Emitter<ConnectionEvents> {
  state: ConnectionState = "disconnected";
  /** Those who are online, as far as the session hears of them. */
  readonly online = new Map<string, PresenceStatus>();
  #options: ConnectionOptions;
  // Whether it is to be connected, now or as soon as it can be.
  wanted = false;
  // Grows with every attempt and whenever one is given up: what an older one still brings is of no account.
  #attempt = 0;
  #socket: Socket | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  #welcomedAt = 0;
  #freshJwt = false;
  #refusal: { code: string | undefined; message: string } | undefined;
  #heartbeat = 0;
  #own: OwnStatus | undefined;
  /** The last status that had no end. */
  #lasting: OwnStatus | undefined;
  /** What the server was told last. */
  #sent: OwnStatus | undefined;
  #position: Position | undefined;
  #next: Position | undefined;
  #named: Set<string> | undefined;
  readonly #retryNow = () => {
    if (this.wanted && this.state === "disconnected") void this.#connect();
  };

  constructor(options: ConnectionOptions) {
    super();
    this.#options = options;
  }

  get uid(): string {
    return this.#options.uid;
  }

  open(): void {
    if (this.wanted) return;
    this.wanted = true;
    this.#failures = 0;
    this.#freshJwt = false;
    globalThis.addEventListener?.("online", this.#retryNow);
    void this.#connect();
  }

  close(): void {
    this.#wantNoMore();
    this.#abandon()?.close(1000, "client closed");
    this.#become("disconnected");
  }

  setStatus(own: OwnStatus): void {
    this.#own = own;
    if (!own.expiresAt) this.#lasting = own;
    if (this.state === "connected") this.#sendStatus();
  }

  #sendStatus(): void {
    const known = this.#sent;
    const own = this.#statusToSend();
    if (own && own !== known) this.#send({ type: "status", body: wireStatus(own) });
  }

  /** Returns how the device presents itself, which is taken for sent. */
  #statusToSend(): OwnStatus | undefined {
    if (this.#own?.expiresAt && this.#own.expiresAt * 1000 <= Date.now()) this.#own = this.#lasting;
    this.#sent = this.#own;
    return this.#sent;
  }

  /** Hears of others. The snapshot that begins it also tells who is not heard of any more. */
  subscribe(subscription: Subscription): void {
    this.#options = { ...this.#options, subscription };
    this.#position = undefined;
    this.renew();
  }

  /** Goes on with a socket of its own for what has changed, such as the token. Nobody hears of it. */
  renew(): void {
    if (!this.wanted) return;
    this.#abandon()?.close(comingBack, "coming back");
    void this.#connect();
  }

  #wantNoMore(): void {
    this.wanted = false;
    globalThis.removeEventListener?.("online", this.#retryNow);
  }

  #become(state: ConnectionState, closed?: Closed): void {
    if (this.state === state) return;
    this.state = state;
    this.emit("state", closed ? { state, closed } : { state });
  }

  #after(milliseconds: number, work: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(work, milliseconds);
  }

  /** Ends the attempt under way, and returns its socket, if there is one. */
  #abandon(): Socket | undefined {
    this.#attempt++;
    clearTimeout(this.#timer);
    const socket = this.#socket;
    if (socket) socket.onopen = socket.onmessage = socket.onclose = null;
    this.#socket = undefined;
    return socket;
  }

  async #connect(): Promise<void> {
    const attempt = ++this.#attempt;
    this.#refusal = undefined;
    this.#after(welcomeWithin, () => this.#giveUp());
    this.#become("connecting");
    try {
      const auth = await this.#options.jwt(this.#freshJwt);
      if (attempt !== this.#attempt) return;
      const socket = new (this.#options.webSocket ?? platformSocket())(this.#options.url);
      this.#socket = socket;
      socket.onopen = () => this.#authenticate(auth);
      socket.onmessage = ({ data }) => this.#receive(data);
      socket.onclose = ({ code, reason }) => this.#ended({ code, reason });
    } catch (error) {
      if (attempt === this.#attempt) this.#failed({ code: 1006, reason: error instanceof Error ? error.message : "" });
    }
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
    const own = this.#statusToSend();
    const rollcall = {
      ...(own && wireStatus(own)),
      ...(own?.expiresAt && this.#lasting && { then: wireStatus(this.#lasting) }),
      ...(this.#position ? { resume: this.#position } : { snapshot: true }),
    };
    this.#send({ type: "auth", appId, deviceId, sender: uid, body: { auth, deviceId, ...whom, rollcall } });
  }

  #receive(data: unknown): void {
    let frame: Frame;
    try {
      frame = JSON.parse(String(data));
    } catch {
      return this.#giveUp();
    }
    this.#take(frame);
  }

  #take(frame: Frame): void {
    const { type, body } = frame;
    if (frame.action === "pong") return this.#beat();
    if (type === "auth" && body?.rollcall) this.#welcome(body.rollcall);
    if (type === "auth" && !body?.rollcall) this.#refusal = { code: body?.code, message: body?.message ?? "" };
    if (type === "presence" && body?.user) {
      if (this.#position && body.sequence) this.#position.sequence = body.sequence;
      this.#tell(presenceOf({
        uid: body.user.uid, status: body.action ?? "offline", user: body.user, ...(body.statusText && { statusText: body.statusText }),
        ...(body.timestamp && { lastActiveAt: body.timestamp }),
      }), false);
    }
    if (type === "change" && body) this.emit("change", body);
    if (type === "presence_snapshot" && body?.users) this.#snapshot(body.users, body.complete ?? false, body.last ?? true);
  }

  // The position stays where it was until the snapshot is complete that brings the session up to the new one.
  #welcome({ epoch, sequence, heartbeatSeconds, updatedAt }: Position & { heartbeatSeconds: number; updatedAt?: number }): void {
    this.#welcomedAt = Date.now();
    this.#freshJwt = false;
    this.#next = { epoch, sequence };
    this.#named = undefined;
    this.#heartbeat = (heartbeatSeconds * 1000) / 3;
    this.#beat();
    this.#sendStatus();
    this.#become("connected");
    this.emit("welcome", { updatedAt });
  }

  // A pong, or the welcome, starts the wait for the next ping; a ping starts the wait for its pong.
  #beat(): void {
    this.#after(this.#heartbeat, () => {
      this.#send({ action: "ping", ack: "true" });
      this.#after(pongWithin, () => this.#giveUp());
    });
  }

  #snapshot(users: PresenceFields[], complete: boolean, last: boolean): void {
    const initial = !this.#position;
    if (complete) this.#named ??= new Set();
    for (const status of users.map(presenceOf)) {
      this.#named?.add(status.uid);
      if (status.status !== "offline" || this.online.has(status.uid)) this.#tell(status, initial);
    }
    if (!last) return;
    if (complete) {
      for (const uid of [...this.online.keys()]) if (!this.#named?.has(uid)) this.#tell({ uid, status: "offline" }, initial);
      this.#named = undefined;
    }
    if (this.#next) this.#position = this.#next;
    this.#next = undefined;
    if (complete) this.emit("complete", undefined);
  }

  #tell(status: PresenceStatus, initial: boolean): void {
    const before = this.online.get(status.uid);
    if (status.status === "offline") {
      if (before?.user && !status.user) status = { ...status, user: before.user };
      this.online.delete(status.uid);
    } else {
      this.online.set(status.uid, status);
      if (before && looks(before) === looks(status)) return;
    }
    this.emit("presence", { status, initial });
  }

  /** Ends a socket on which nothing comes back, or nothing good. */
  #giveUp(): void {
    const socket = this.#abandon();
    socket?.close(comingBack, "no answer");
    this.#failed({ code: 1006, reason: "no answer" });
  }

  #ended(closed: Closed): void {
    this.#abandon();
    const { code } = closed;
    if (this.#refusal) closed = { code, reason: this.#refusal.message || closed.reason };
    if (hopeless.includes(code) || this.#refusal?.code === "400" || (code === authFailed && this.#freshJwt)) {
      this.#wantNoMore();
      return this.#become("disconnected", closed);
    }
    if ((code === authFailed || code === revoked) && !this.#freshJwt) {
      this.#freshJwt = true; // whoever has it says at once whether the session has ended
      const attempt = this.#attempt;
      this.#become("disconnected", closed);
      if (this.wanted && attempt === this.#attempt) void this.#connect();
      return;
    }
    this.#failed(closed);
  }

  #failed(closed: Closed): void {
    const attempt = ++this.#attempt;
    if (Date.now() - this.#welcomedAt > steadyAfter && this.state === "connected") this.#failures = 0;
    this.#become("disconnected", closed);
    if (!this.wanted || attempt !== this.#attempt) return; // a listener has decided
    const most = Math.min(firstBackOff * 2 ** Math.min(this.#failures++, 10), longestBackOff);
    this.#after(most / 2 + (Math.random() * most) / 2, () => void this.#connect());
  }
}

// looks is what others see of a status: not when the user was last active, which is now while it is online.
function looks({ status, statusText, user }: PresenceStatus): string {
  const { status: _, lastActiveAt: __, ...profile } = user ?? ({} as Partial<User>);
  return JSON.stringify([status, statusText, profile]);
}
