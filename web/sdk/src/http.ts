import { RollcallError, unreachable } from "./errors.js";
import { unanswered, untrusted } from "./failure.js";

export type Query = Record<string, string | number | string[] | undefined>;

/** A call to the server. */
export interface Call {
  method: "GET" | "POST" | "PUT" | "DELETE";
  path: string;
  /** Of a list, the items are joined by commas. */
  query?: Query;
  body?: unknown;
  /** Authenticates in the place of the session's token. */
  authKey?: string;
  authToken?: string;
  signal?: AbortSignal | undefined;
}

/** The answer to a call. */
export interface Answer<T> {
  data: T;
  meta?: { pagination?: Pagination; nextCursor?: string; codes?: Record<string, string> };
}

export interface Pagination {
  total: number;
  count: number;
  per_page: number;
  current_page: number;
  total_pages: number;
}

/** What every caller may say of a call. */
export interface CallOptions {
  /** Ends the call early: it rejects with the signal's reason. */
  signal?: AbortSignal;
}

const tries = 3;
// A server that asks for a longer wait is not asked again.
const longestWait = 20_000;
const timeout = 30_000;

/** @internal Returns a random text. Pages without TLS have no crypto.randomUUID. */
export function randomId(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Makes calls, and again what can be repeated without harm. */
export class Transport {
  readonly base: string;
  readonly #headers: Record<string, string>;
  readonly #fetch: typeof fetch;

  constructor(host: string, headers: Record<string, string>, fetcher: typeof fetch | undefined) {
    this.base = host.replace(/\/+$/, "");
    this.#headers = headers;
    this.#fetch = (...request) => (fetcher ?? globalThis.fetch)(...request);
  }

  async call<T>(call: Call): Promise<Answer<T>> {
    // What creates something is made repeatable by a key, under which the server answers a repetition with its first answer.
    const key = call.method === "POST" ? { "idempotency-key": randomId() } : undefined;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#once<T>(call, key);
      } catch (error) {
        if (!(error instanceof RollcallError) || attempt >= tries || !mayRepeat(error)) throw error;
        await pause(Math.max(error.retryAfter ?? 0, 200 * 2 ** attempt * (0.5 + Math.random() / 2)), call.signal);
      }
    }
  }

  async #once<T>(call: Call, key: Record<string, string> | undefined): Promise<Answer<T>> {
    const search = Object.entries(call.query ?? {})
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${encodeURIComponent(name)}=${[value].flat().map((item) => encodeURIComponent(String(item))).join(",")}`)
      .join("&");
    const headers: Record<string, string> = { ...this.#headers, ...key, accept: "application/json" };
    if (call.authKey !== undefined) headers["apikey"] = call.authKey;
    else if (call.authToken !== undefined) headers["authToken"] = call.authToken;
    const request: RequestInit = { method: call.method, headers, signal: bounded(call.signal) };
    if (call.body !== undefined) {
      headers["content-type"] = "application/json";
      request.body = JSON.stringify(call.body);
    }
    let response: Response;
    let text: string;
    try {
      response = await this.#fetch(`${this.base}/v3${call.path}${search && `?${search}`}`, request);
      text = await response.text();
    } catch (error) {
      if (call.signal?.aborted) throw call.signal.reason;
      throw unanswered(error, this.base);
    }
    const answer = parsed(text) as { data?: T; error?: { code?: string; name?: string; message?: string; details?: unknown } } | undefined;
    if (!answer || answer.error || !response.ok) {
      const { code = unknown, message = `The server answered with status ${response.status}, and not as Rollcall does.`, name, details } = answer?.error ?? {};
      const wait = Number(response.headers.get("retry-after")) * 1000;
      throw new RollcallError({
        code, message, status: response.status, ...(details === undefined ? {} : { details }), ...(name ? { name } : {}),
        ...(wait > 0 ? { retryAfter: wait } : {}),
      });
    }
    return answer as Answer<T>;
  }
}

/** @internal The code of an answer that is not Rollcall's. */
export const unknown = "ERR_UNKNOWN";

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) ?? undefined;
  } catch {
    return undefined;
  }
}

// bounded is a signal that also aborts when a call takes too long.
function bounded(signal: AbortSignal | undefined): AbortSignal {
  const late = AbortSignal.timeout(timeout);
  return signal ? AbortSignal.any([signal, late]) : late;
}

// Every call of this library may be repeated: those that read, that set what is to be, and that carry a key.
function mayRepeat(error: RollcallError): boolean {
  if ((error.retryAfter ?? 0) > longestWait || error.name === untrusted) return false;
  return error.code === unreachable || [429, 502, 503, 504].includes(error.status ?? 0);
}

/** Waits, or rejects with the reason of a signal that aborts. */
export function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const aborted = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    if (signal?.aborted) return reject(signal.reason);
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", aborted);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", aborted, { once: true });
  });
}
