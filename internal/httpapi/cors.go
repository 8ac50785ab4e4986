package httpapi

import "net/http"

// Browsers call with the headers of sdk-wire.md section A4, and without cookies, so any origin may call.
var (
	corsOrigin  = []string{"*"}
	corsMethods = []string{"GET, POST, PUT, PATCH, DELETE, OPTIONS"}
	corsHeaders = []string{"appid, apikey, authtoken, resource, sdk, content-type, accept, authorization, onbehalfof, onbehalfofuser, chatapiversion, settingshash, settingshashreceivedat, idempotency-key, last-event-id, key, secret, x-request-id"}
	corsExpose  = []string{"retry-after, x-request-id, x-rate-limit, x-rate-limit-remaining, x-rate-limit-reset, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset"}
	corsMaxAge  = []string{"86400"}
)

func setCORS(header http.Header) {
	header["Access-Control-Allow-Origin"] = corsOrigin
	header["Access-Control-Allow-Methods"] = corsMethods
	header["Access-Control-Allow-Headers"] = corsHeaders
	header["Access-Control-Expose-Headers"] = corsExpose
	header["Access-Control-Max-Age"] = corsMaxAge
}
