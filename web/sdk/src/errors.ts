/** What a refusal or a failure says. */
export interface ErrorFields {
  /** The contract's code, such as `ERR_UID_NOT_FOUND`, or a code of this library such as `INVALID_UID`. */
  code: string;
  message: string;
  name?: string;
  /** What is wrong, field by field, when the server says so. */
  details?: unknown;
  /** The HTTP status; absent for what never reached the server. */
  status?: number;
  /** How long the server asks to wait, in milliseconds. */
  retryAfter?: number;
  /** What the platform said of a request that nobody answered. */
  cause?: unknown;
}

/** The one error that this library rejects with. Look at its `code`. */
export class RollcallError extends Error {
  /** The contract's code, such as `ERR_UID_NOT_FOUND`, or a code of this library such as `INVALID_UID`. */
  readonly code: string;
  /** What is wrong, field by field, when the server says so. */
  readonly details?: unknown;
  /** The HTTP status; absent for what never reached the server. */
  readonly status?: number;
  /** @internal */
  readonly retryAfter?: number;

  constructor(fields: ErrorFields) {
    super(fields.message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.name = fields.name ?? "RollcallError";
    this.code = fields.code;
    if (fields.details !== undefined) this.details = fields.details;
    if (fields.status !== undefined) this.status = fields.status;
    if (fields.retryAfter !== undefined) this.retryAfter = fields.retryAfter;
  }

  /** What JSON.stringify makes of it: with the message, which it leaves out of other errors. */
  toJSON(): ErrorFields {
    return { ...this, message: this.message };
  }
}

/** The code of an auth token that is not valid any more: the session has ended. */
export const tokenUnknown = "AUTH_ERR_AUTH_TOKEN_NOT_FOUND";

/** The code of a request that nobody answered. */
export const unreachable = "FAILED_TO_FETCH";

/** @internal */
export function wrong(code: string, message: string, name?: string): RollcallError {
  return new RollcallError(name === undefined ? { code, message } : { code, message, name });
}
