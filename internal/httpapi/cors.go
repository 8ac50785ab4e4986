package httpapi

import "net/http"

// Browsers call with the headers of sdk-wire.md section A4, and without cookies, so any origin may call.
var (
	corsOrigin  = []string{"*"}
	corsMethods = []string{"GET, POST, PUT, PATCH, DELETE, OPTIONS"}
	corsHeaders = []string{"appid, apikey, authtoken, resource, sdk, content-type, accept, authorization, onbehalfof, " +
		"onbehalfofuser, chatapiversion, settingshash, settingshashreceivedat, idempotency-key, last-event-id, " +
		"key, secret, x-request-id, prefer"}
	corsExpose = []string{"retry-after, rollcall-ignored, x-request-id, x-rate-limit, x-rate-limit-remaining, " +
		"x-rate-limit-reset, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset"}
	corsMaxAge = []string{"86400"}
)

// allowOrigin opens an answer to pages of any origin, when a page asks.
func allowOrigin(header http.Header, r *http.Request) {
	if len(r.Header["Origin"]) == 0 {
		return
	}
	header["Access-Control-Allow-Origin"] = corsOrigin
	header["Access-Control-Expose-Headers"] = corsExpose
}

// answerPreflight tells a browser what it may send.
func answerPreflight(x *exchange) {
	header := x.Header()
	header["Access-Control-Allow-Methods"] = corsMethods
	header["Access-Control-Allow-Headers"] = corsHeaders
	header["Access-Control-Max-Age"] = corsMaxAge
	x.WriteHeader(http.StatusNoContent)
}
