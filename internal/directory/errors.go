package directory

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// Code is an error code of the contract (rest.md section 10.2).
type Code string

// The codes that the rules answer with.
const (
	CodeAppNotFound      Code = "ERR_APP_NOT_FOUND"
	CodeAppArchived      Code = "ERR_APP_ARCHIVED"
	CodeAppLimit         Code = "ERR_APP_CREATION_FAILED_MAX_LIMIT"
	CodeAlreadyOwner     Code = "ERR_ALREADY_AN_OWNER"
	CodeNotCollaborator  Code = "ERR_NOT_A_COLLABORATOR"
	CodeInvalidApp       Code = "AUTH_ERR_INVALID_APPID"
	CodeKeyUnknown       Code = "AUTH_ERR_APIKEY_NOT_FOUND"
	CodeTokenUnknown     Code = "AUTH_ERR_AUTH_TOKEN_NOT_FOUND"
	CodeNoAccess         Code = "AUTH_ERR_NO_ACCESS"
	CodeKeyNotFound      Code = "ERR_APIKEY_NOT_FOUND"
	CodeKeySelfAction    Code = "ERR_APIKEY_NO_SELF_ACTION"
	CodeTokenNotFound    Code = "ERR_AUTH_TOKEN_NOT_FOUND"
	CodeUserNotFound     Code = "ERR_UID_NOT_FOUND"
	CodeUserExists       Code = "ERR_UID_ALREADY_EXISTS"
	CodeRoleNotFound     Code = "ERR_ROLE_NOT_FOUND"
	CodeRoleExists       Code = "ERR_ROLE_ALREADY_EXISTS"
	CodeRoleDeleteDenied Code = "ERR_ROLE_DELETE_DENIED"
	CodePermissionDenied Code = "ERR_PERMISSION_DENIED"
	CodeCannotBlockSelf  Code = "ERR_CANNOT_BLOCK_SELF"
	CodeBlockedReceiver  Code = "ERR_BLOCKED_RECEIVER"
	CodeBlockedSender    Code = "ERR_BLOCKED_SENDER"
	CodeSelfRelation     Code = "ERR_CANNOT_FORM_SELF_RELATION"
	CodeAlreadyFriend    Code = "ERR_ALREADY_FRIEND"
	CodeNoFriendRequest  Code = "ERR_FRIEND_REQUEST_NOT_FOUND"
	CodeQuota            Code = "ERR_PLAN_QUOTA_RESTRICTION"
	CodeBadRequest       Code = "ERR_BAD_REQUEST"
	CodeOperationFailed  Code = "ERR_OPERATION_FAILED"
	CodeTooManyRequests  Code = "ERR_TOO_MANY_REQUESTS"
)

// Error is the one error type of the rules: what the caller is told. Anything else that comes out of a Directory is
// an internal error, whose text is for the log and never for the caller.
type Error struct {
	Code Code
	// Message tells the caller what is wrong and what to do about it.
	Message string
	// Details holds what is wrong field by field, for CodeBadRequest and CodeUserExists.
	Details map[string][]string
	// RetryAfter is when it is worth asking again, for what passes by itself; else 0.
	RetryAfter time.Duration
	// Cause is for the log alone. It may be nil.
	Cause error
	// forPrivate are Details for callers who may know everything of a user.
	forPrivate map[string][]string
}

// Told returns an error as the caller may be told of it: who has a fullAccess key, and acts for nobody, learns that a
// user who is said not to exist is deactivated.
func (c Caller) Told(err *Error) *Error {
	if err.forPrivate == nil || !c.Private {
		return err
	}
	told := *err
	told.Details = err.forPrivate
	return &told
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.Cause)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

func (e *Error) Unwrap() error { return e.Cause }

// IsCode reports whether err is, or wraps, an Error with the given code.
func IsCode(err error, code Code) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

func fail(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// ErrUserNotFound is the answer for a user that does not exist, is deactivated or may not be seen. Clients compare
// its text (contract rest.md section 10.1).
func ErrUserNotFound(uid string) *Error {
	return fail(
		CodeUserNotFound, "The UID %s does not exist, please make sure you have created a user with UID %s.", uid, uid,
	)
}

// errDeactivated is ErrUserNotFound for a user who is deactivated.
func errDeactivated(user User, sent string) *Error {
	err := ErrUserNotFound(sent)
	err.forPrivate = map[string][]string{
		"uid": {fmt.Sprintf(
			"The user %s is deactivated since %s. Reactivate it to use it again.", user.UID,
			time.Unix(user.DeactivatedAt, 0).UTC().Format(time.RFC3339),
		)},
		"deactivatedAt": {strconv.FormatInt(user.DeactivatedAt, 10)}, // for programs
	}
	return err
}

func errAlreadyFriends(uid, other UID) *Error {
	return fail(CodeAlreadyFriend, "The users %s and %s are friends already.", uid, other)
}

func errUserExists(uid UID) *Error {
	return &Error{
		Code:    CodeUserExists,
		Message: fmt.Sprintf("A user with the UID %s exists already. Update that user, or choose another UID.", uid),
		Details: map[string][]string{"uid": {"The uid has already been taken."}},
	}
}

func errRoleNotFound(role string) *Error {
	return fail(CodeRoleNotFound, "The role %s does not exist. Create it first.", role)
}

// FieldErrors gathers what is wrong with the fields of one request.
type FieldErrors map[string][]string

// Add records that a field is wrong. Members of a list are named "tags.0".
func (f *FieldErrors) Add(field, format string, args ...any) {
	if *f == nil {
		*f = FieldErrors{}
	}
	(*f)[field] = append((*f)[field], fmt.Sprintf(format, args...))
}

// Err returns nil when nothing was added, and otherwise a CodeBadRequest error with all of it.
func (f FieldErrors) Err() error {
	if len(f) == 0 {
		return nil
	}
	fields := slices.Sorted(maps.Keys(f))
	message := f[fields[0]][0]
	if len(fields) > 1 {
		message = fmt.Sprintf("%s (and %d more; see details)", message, len(fields)-1)
	}
	return &Error{Code: CodeBadRequest, Message: message, Details: f}
}
