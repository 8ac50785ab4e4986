import { RollcallError, unreachable } from "./errors.js";

/** The name of the error for a server whose certificate is not trusted. */
export const untrusted = "CERTIFICATE_NOT_TRUSTED";

const selfSigned =
  "Only for your own machine: use the server's http address, or start Node with NODE_EXTRA_CA_CERTS=data/tls/cert.pem, the certificate that Rollcall made for itself. " +
  "For everybody else, let Rollcall serve a certificate of a known authority (--tls-cert, --tls-key).";

// What Node says of a certificate, by its codes: what is wrong, and what to do.
const certificates: Record<string, [wrong: string, cure: string]> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: ["is self-signed", selfSigned],
  SELF_SIGNED_CERT_IN_CHAIN: ["comes from an authority of its own", "Start Node with NODE_EXTRA_CA_CERTS=FILE, the certificate of that authority."],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: ["comes without the certificates between it and a known authority", "Let the server's --tls-cert hold the whole chain, or start Node with NODE_EXTRA_CA_CERTS=FILE."],
  CERT_HAS_EXPIRED: ["has expired", "Renew it on the server."],
  CERT_NOT_YET_VALID: ["is not valid yet", "Compare the clocks of the two machines."],
  ERR_TLS_CERT_ALTNAME_INVALID: ["is for another host", "Call the server by a name that the certificate has."],
};
certificates["UNABLE_TO_GET_ISSUER_CERT_LOCALLY"] = certificates["UNABLE_TO_GET_ISSUER_CERT"] = certificates["UNABLE_TO_VERIFY_LEAF_SIGNATURE"]!;

/** @internal The error for a request to an address that nobody answered: as much as the platform tells, and what to do. */
export function unanswered(error: unknown, address: string): RollcallError {
  const { message = String(error), cause, name } = (error ?? {}) as Partial<Error>;
  const reason = cause instanceof Error ? cause : undefined;
  const code = String((reason as { code?: unknown } | undefined)?.code ?? (error as { code?: unknown } | undefined)?.code ?? "");
  const origin = address.replace(/^(\w+:\/\/[^/]*).*$/, "$1");
  const failed = (text: string, name?: string) => new RollcallError({ code: unreachable, message: text, cause: error, ...(name && { name }) });
  const certificate = certificates[code];
  if (certificate) return failed(`The certificate of ${origin} is not trusted: it ${certificate[0]} (${code}). ${certificate[1]}`, untrusted);
  const because = reason?.message || message;
  if (/^(ERR_SSL|EPROTO)/.test(code) && origin.startsWith("https:")) {
    return failed(`The server cannot be reached: ${origin} does not speak TLS (${code}). Is it Rollcall's http address? Then host begins with http://.`);
  }
  if (name === "TimeoutError") return failed(`The server cannot be reached: ${origin} has not answered in time.`);
  return failed(`The server cannot be reached: ${code && !because.includes(code) ? `${code} ` : ""}${because}.${hint(code, origin)}`.replace(/\.\./g, "."));
}

// A browser does not say why a request failed, not even to the page.
function hint(code: string, origin: string): string {
  if (code === "ECONNREFUSED") return ` Nobody listens at ${origin}: is Rollcall running there?`;
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return ` Is the host right: ${origin}?`;
  if (!("document" in globalThis) || code) return "";
  if (!origin.startsWith("https:")) {
    return globalThis.location?.protocol === "https:" ? " A page under https may only call https." : ` A browser does not say why. Does Rollcall run at ${origin}?`;
  }
  return ` A browser does not say why. Does Rollcall run at ${origin}? If its certificate is self-signed, open ${origin} once in this browser and accept it.`;
}
