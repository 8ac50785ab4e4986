// Package api is the wire contract: the JSON bodies, headers and error codes that the server and its clients share.
// It imports nothing but the standard library.
package api

import "net/http"

// Code is an error code of the contract. A code is never renamed.
type Code string

// The codes that the server answers with, beside those listed in openapi.yaml under each call.
const (
	CodeEmptyAppID       Code = "AUTH_ERR_EMPTY_APPID"
	CodeInvalidAppID     Code = "AUTH_ERR_INVALID_APPID"
	CodeEmptyAPIKey      Code = "AUTH_ERR_EMPTY_APIKEY"
	CodeAPIKeyUnknown    Code = "AUTH_ERR_APIKEY_NOT_FOUND"
	CodeNoAccess         Code = "AUTH_ERR_NO_ACCESS"
	CodeEmptyAuthHeader  Code = "AUTH_ERR_EMPTY_AUTH_HEADER"
	CodeEmptyAuthToken   Code = "AUTH_ERR_EMPTY_AUTH_TOKEN"
	CodeAuthTokenUnknown Code = "AUTH_ERR_AUTH_TOKEN_NOT_FOUND"

	CodeAppNotFound           Code = "ERR_APP_NOT_FOUND"
	CodeAppArchived           Code = "ERR_APP_ARCHIVED"
	CodeAppLimit              Code = "ERR_APP_CREATION_FAILED_MAX_LIMIT"
	CodeAlreadyAnOwner        Code = "ERR_ALREADY_AN_OWNER"
	CodeNotACollaborator      Code = "ERR_NOT_A_COLLABORATOR"
	CodeAPIKeyNotFound        Code = "ERR_APIKEY_NOT_FOUND"
	CodeAPIKeyNoSelfAction    Code = "ERR_APIKEY_NO_SELF_ACTION"
	CodeAuthTokenNotFound     Code = "ERR_AUTH_TOKEN_NOT_FOUND"
	CodeUIDNotFound           Code = "ERR_UID_NOT_FOUND"
	CodeOnBehalfOfUIDNotFound Code = "ERR_ON_BEHALF_OF_UID_NOT_FOUND"
	CodeUIDAlreadyExists      Code = "ERR_UID_ALREADY_EXISTS"
	CodeRoleNotFound          Code = "ERR_ROLE_NOT_FOUND"
	CodeRoleAlreadyExists     Code = "ERR_ROLE_ALREADY_EXISTS"
	CodeRoleDeleteDenied      Code = "ERR_ROLE_DELETE_DENIED"
	CodePermissionDenied      Code = "ERR_PERMISSION_DENIED"
	CodeCannotBlockSelf       Code = "ERR_CANNOT_BLOCK_SELF"
	CodeBlockedReceiver       Code = "ERR_BLOCKED_RECEIVER"
	CodeBlockedSender         Code = "ERR_BLOCKED_SENDER"
	CodeSelfRelation          Code = "ERR_CANNOT_FORM_SELF_RELATION"
	CodeAlreadyFriend         Code = "ERR_ALREADY_FRIEND"
	CodeNoFriendRequest       Code = "ERR_FRIEND_REQUEST_NOT_FOUND"
	CodeImportFormat          Code = "ERR_IMPORT_INVALID_USER_FORMAT"
	CodeQuota                 Code = "ERR_PLAN_QUOTA_RESTRICTION"
	CodeBadRequest            Code = "ERR_BAD_REQUEST"
	CodeAPINotFound           Code = "ERR_API_NOT_FOUND"
	CodeInvalidAPIVersion     Code = "ERR_INVALID_API_VERSION"
	CodeTooManyRequests       Code = "ERR_TOO_MANY_REQUESTS"
	CodeOperationFailed       Code = "ERR_OPERATION_FAILED"
	CodeException             Code = "ERR_EXCEPTION"
	CodeNoAuth                Code = "ERR_NO_AUTH"
	CodeSettingsHashOutdated  Code = "ERR_SETTINGS_HASH_OUTDATED"
)

// Status returns the HTTP status of an error with this code, unless openapi.yaml has another under a call; 0 for an
// unknown code.
func (c Code) Status() int { return statuses[c] }

// statuses are the HTTP statuses of the contract's codes (rest.md section 10.2).
var statuses = map[Code]int{
	CodeEmptyAppID:            http.StatusUnauthorized,
	CodeInvalidAppID:          http.StatusNotFound,
	CodeEmptyAPIKey:           http.StatusUnauthorized,
	CodeAPIKeyUnknown:         http.StatusUnauthorized,
	CodeNoAccess:              http.StatusForbidden,
	CodeEmptyAuthHeader:       http.StatusUnauthorized,
	CodeEmptyAuthToken:        http.StatusUnauthorized,
	CodeAuthTokenUnknown:      http.StatusUnauthorized,
	CodeNoAuth:                http.StatusUnauthorized,
	CodeAppNotFound:           http.StatusNotFound,
	CodeAppArchived:           http.StatusForbidden,
	CodeAppLimit:              http.StatusForbidden,
	CodeAlreadyAnOwner:        http.StatusBadRequest,
	CodeNotACollaborator:      http.StatusNotFound,
	CodeAPIKeyNotFound:        http.StatusNotFound,
	CodeAPIKeyNoSelfAction:    http.StatusForbidden,
	CodeAuthTokenNotFound:     http.StatusNotFound,
	CodeUIDNotFound:           http.StatusNotFound,
	CodeOnBehalfOfUIDNotFound: http.StatusNotFound,
	CodeUIDAlreadyExists:      http.StatusBadRequest,
	CodeRoleNotFound:          http.StatusNotFound,
	CodeRoleAlreadyExists:     http.StatusBadRequest,
	CodeRoleDeleteDenied:      http.StatusForbidden,
	CodePermissionDenied:      http.StatusForbidden,
	CodeCannotBlockSelf:       http.StatusForbidden,
	CodeBlockedReceiver:       http.StatusForbidden,
	CodeBlockedSender:         http.StatusForbidden,
	CodeSelfRelation:          http.StatusForbidden,
	CodeAlreadyFriend:         http.StatusBadRequest,
	CodeNoFriendRequest:       http.StatusNotFound,
	CodeImportFormat:          http.StatusBadRequest,
	CodeQuota:                 http.StatusForbidden,
	CodeBadRequest:            http.StatusBadRequest,
	CodeAPINotFound:           http.StatusNotFound,
	CodeInvalidAPIVersion:     http.StatusBadRequest,
	CodeTooManyRequests:       http.StatusTooManyRequests,
	CodeSettingsHashOutdated:  http.StatusConflict,
	CodeOperationFailed:       http.StatusInternalServerError,
	CodeException:             http.StatusInternalServerError,
}

// Source is the value of Error.Source in every error.
const Source = "chat-api"

// Error is the body of every answer that is not a success: {"error": {…}}.
type Error struct {
	Code Code `json:"code"`
	// Message says what is wrong and what to do about it.
	Message    string `json:"message"`
	DevMessage string `json:"devMessage"`
	Source     string `json:"source"`
	// Details holds what is wrong field by field. Members of a list have flat keys, such as "tags.0".
	Details map[string][]string `json:"details,omitempty"`
}

// ErrorBody is the envelope of an Error.
type ErrorBody struct {
	Error Error `json:"error"`
}
