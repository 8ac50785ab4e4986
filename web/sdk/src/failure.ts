import { RollcallError, unreachable } from "./errors.js";

/** The name of the error for a server whose certificate is not trusted. */
export const untrusted = "CERTIFICATE_NOT_TRUSTED";

const unknownAuthority = [
  "comes without the certificates between it and a known authority",
  "Let the server's --tls-cert, or the proxy's certificate, hold the whole chain, or start Node with NODE_EXTRA_CA_CERTS=FILE.",
] as const;

// What Node says of a certificate, by its codes: what is wrong, and what to do.
const certificates: Record<string, readonly [wrong: string, cure: string]> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: [
    "is self-signed",
    "On your own machine, call the server's http address, or start Node with NODE_EXTRA_CA_CERTS=data/tls/cert.pem, the " +
      "certificate that Rollcall made for itself. Elsewhere, let it serve one of a known authority (--tls-cert, --tls-key).",
  ],
  SELF_SIGNED_CERT_IN_CHAIN: [
    "comes from an authority of its own",
    "Start Node with NODE_EXTRA_CA_CERTS=FILE, the certificate of that authority.",
  ],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: unknownAuthority,
  UNABLE_TO_GET_ISSUER_CERT: unknownAuthority,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: unknownAuthority,
  CERT_HAS_EXPIRED: ["has expired", "Renew it on the server."],
  CERT_NOT_YET_VALID: ["is not valid yet", "Compare the clocks of the two machines."],
  ERR_TLS_CERT_ALTNAME_INVALID: ["is for another host", "Call the server by a name that the certificate has."],
};

/** @internal Makes the error for a call that nobody answered: as much as the platform tells, and what to do. */
export function unanswered(error: unknown, address: string): RollcallError {
  const { name, message = String(error), cause, code: own } = (error ?? {}) as Partial<Error> & { code?: unknown };
  const reason = cause instanceof Error ? (cause as Error & { code?: unknown }) : undefined;
  const code = String(reason?.code ?? own ?? "");
  const origin = address.replace(/^(\w+:\/\/[^/]*).*$/, "$1");
  const certificate = certificates[code];
  if (certificate) {
    const text = `The certificate of ${origin} is not trusted: it ${certificate[0]} (${code}). ${certificate[1]}`;
    return new RollcallError({ code: unreachable, name: untrusted, message: text, cause: error });
  }
  const failed = (text: string) =>
    new RollcallError({ code: unreachable, message: `The server cannot be reached: ${text}`, cause: error });
  if (name === "TimeoutError") return failed(`${origin} has not answered in time.`);
  if (/^(ERR_SSL|EPROTO)/.test(code) && origin.startsWith("https:")) {
    return failed(`${origin} does not speak TLS (${code}). Is it Rollcall's http address? Then host begins with http://.`);
  }
  const because = (reason?.message || message).replace(/\.$/, "");
  return failed(`${code && !because.includes(code) ? `${code} ` : ""}${because}.${hint(code, origin)}`);
}

// hint is what to look at. A browser does not say why a call failed, not even to the page.
function hint(code: string, origin: string): string {
  if (code === "ECONNREFUSED") return ` Nobody listens at ${origin}: is Rollcall running there?`;
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return ` Is the host right: ${origin}?`;
  if (!("document" in globalThis)) return "";
  const secure = origin.startsWith("https:");
  if (!secure && globalThis.location?.protocol === "https:") return " A page under https may only call https.";
  const accept = ` If its certificate is self-signed, open ${origin} once in this browser and accept it.`;
  return ` A browser does not say why. Does Rollcall run at ${origin}?${secure ? accept : ""}`;
}
