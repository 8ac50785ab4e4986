// Package secret keeps keys and tokens safe at rest: a keyed hash to look them up by, and an encrypted copy for
// the callers entitled to see them. It derives everything from master keys and knows nothing of apps, users or
// storage.
package secret

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

const (
	masterKeySize = 32
	// HashSize is the length in bytes of what Hash returns: 128 bits, far beyond guessing for random secrets.
	HashSize     = 16
	keyIDSize    = 4
	sealOverhead = keyIDSize + 12 + 16
)

// ErrUnknownMasterKey means that a sealed text was made with a master key that the keyring no longer holds.
var ErrUnknownMasterKey = errors.New("sealed with a master key that is not in the keyring")

// MasterKey is the 32-byte secret that everything else is derived from.
type MasterKey [masterKeySize]byte

// NewMasterKey returns a master key from the system's random source.
func NewMasterKey() MasterKey {
	var key MasterKey
	rand.Read(key[:]) // never fails: crypto/rand aborts the program instead
	return key
}

// Keyring hashes, seals and opens with a list of master keys. The first is the current one, used for everything
// new; the others are only tried on what was made before a rotation. It is safe for concurrent use.
type Keyring struct {
	keys []derived
}

// derived holds the keys of one purpose each that come from one master key.
type derived struct {
	id       [keyIDSize]byte
	hashing  []byte
	sealing  cipher.AEAD
	signing  []byte
	identity []byte
	// management is the key and secret of the server's operator.
	management [2]string
}

// NewKeyring derives a keyring from master keys, the current one first. It fails without any key.
func NewKeyring(masters ...MasterKey) (*Keyring, error) {
	if len(masters) == 0 {
		return nil, errors.New("a keyring needs at least one master key")
	}
	ring := &Keyring{}
	for _, master := range masters {
		key, err := derive(master)
		if err != nil {
			return nil, fmt.Errorf("derive from master key: %w", err)
		}
		ring.keys = append(ring.keys, key)
	}
	return ring, nil
}

func derive(master MasterKey) (derived, error) {
	var key derived
	expand := func(purpose string, size int) ([]byte, error) {
		return hkdf.Key(sha256.New, master[:], nil, "rollcall "+purpose, size)
	}
	id, err := expand("key id", keyIDSize)
	if err != nil {
		return key, err
	}
	copy(key.id[:], id)
	if key.hashing, err = expand("lookup hash", 32); err != nil {
		return key, err
	}
	if key.signing, err = expand("signing", 32); err != nil {
		return key, err
	}
	if key.identity, err = expand("identity", 32); err != nil {
		return key, err
	}
	for i, purpose := range []string{"management key", "management secret"} {
		raw, err := expand(purpose, 20)
		if err != nil {
			return key, err
		}
		key.management[i] = hex.EncodeToString(raw)
	}
	sealing, err := expand("sealing", 32)
	if err != nil {
		return key, err
	}
	block, err := aes.NewCipher(sealing)
	if err != nil {
		return key, err
	}
	key.sealing, err = cipher.NewGCM(block)
	return key, err
}

// Hash returns the keyed hash of text under the current master key, HashSize bytes long.
func (r *Keyring) Hash(text string) []byte {
	return r.keys[0].hash(text)
}

// Hashes returns the keyed hash of text under every master key, the current one's first: what was stored before a
// rotation is found under a later entry.
func (r *Keyring) Hashes(text string) [][]byte {
	hashes := make([][]byte, len(r.keys))
	for i := range r.keys {
		hashes[i] = r.keys[i].hash(text)
	}
	return hashes
}

func (k *derived) hash(text string) []byte {
	mac := hmac.New(sha256.New, k.hashing)
	mac.Write([]byte(text))
	return mac.Sum(nil)[:HashSize]
}

// Seal encrypts text under the current master key. Open gives it back only for the same context, so that a sealed
// copy moved to another row is refused.
func (r *Keyring) Seal(text, context string) []byte {
	key := &r.keys[0]
	sealed := make([]byte, keyIDSize+key.sealing.NonceSize(), sealOverhead+len(text))
	copy(sealed, key.id[:])
	nonce := sealed[keyIDSize:]
	rand.Read(nonce)
	return key.sealing.Seal(sealed, nonce, []byte(text), []byte(context))
}

// Open decrypts what Seal made for the same context. It returns ErrUnknownMasterKey when the master key is gone.
func (r *Keyring) Open(sealed []byte, context string) (string, error) {
	if len(sealed) < sealOverhead {
		return "", errors.New("sealed text is too short")
	}
	for i := range r.keys {
		key := &r.keys[i]
		if string(sealed[:keyIDSize]) != string(key.id[:]) {
			continue
		}
		size := key.sealing.NonceSize()
		nonce, ciphertext := sealed[keyIDSize:keyIDSize+size], sealed[keyIDSize+size:]
		text, err := key.sealing.Open(nil, nonce, ciphertext, []byte(context))
		if err != nil {
			return "", fmt.Errorf("open sealed text: %w", err)
		}
		return string(text), nil
	}
	return "", ErrUnknownMasterKey
}

// Knows reports whether a sealed text was sealed under one of the master keys.
func (r *Keyring) Knows(sealed []byte) bool {
	return slices.ContainsFunc(r.keys, func(key derived) bool { return bytes.HasPrefix(sealed, key.id[:]) })
}

// SealedByCurrent reports whether sealed was made under the current master key.
func (r *Keyring) SealedByCurrent(sealed []byte) bool {
	return len(sealed) >= keyIDSize && string(sealed[:keyIDSize]) == string(r.keys[0].id[:])
}

// CurrentKeyID names the current master key without telling anything about it.
func (r *Keyring) CurrentKeyID() string {
	return hex.EncodeToString(r.keys[0].id[:])
}

// SigningKey returns the symmetric key that signs short-lived tokens, and the id under which VerifyingKey finds it.
func (r *Keyring) SigningKey() (id string, key []byte) {
	return r.CurrentKeyID(), r.keys[0].signing
}

// VerifyingKey returns the signing key with the given id, or false when its master key is gone.
func (r *Keyring) VerifyingKey(id string) ([]byte, bool) {
	for i := range r.keys {
		if hex.EncodeToString(r.keys[i].id[:]) == id {
			return r.keys[i].signing, true
		}
	}
	return nil, false
}

// IdentityKeys returns the seeds of the asymmetric signing keys by id, and the ids with the current one first.
func (r *Keyring) IdentityKeys() (ids []string, seeds map[string][]byte) {
	seeds = map[string][]byte{}
	for i := range r.keys {
		id := hex.EncodeToString(r.keys[i].id[:])
		ids = append(ids, id)
		seeds[id] = r.keys[i].identity
	}
	return ids, seeds
}

// ManagementCredentials returns the key and secret that open the management calls.
func (r *Keyring) ManagementCredentials() (key, secret string) {
	return r.keys[0].management[0], r.keys[0].management[1]
}

// OpensManagement reports whether the key and secret open the management calls: those of any master key do, so that a
// rotation does not lock the operator out.
func (r *Keyring) OpensManagement(key, secret string) bool {
	opens := 0
	for i := range r.keys {
		known := r.keys[i].management
		opens |= subtle.ConstantTimeCompare([]byte(key), []byte(known[0])) & subtle.ConstantTimeCompare(
			[]byte(secret), []byte(known[1]),
		)
	}
	return opens == 1
}
