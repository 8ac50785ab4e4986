package secret

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const fileHeader = `# Rollcall master keys, one a line, the current one first. Whoever has this file and the database can read
# every API key and auth token: keep it private (mode 0600) and back it up apart from the database.
`

// ParseMasterKeys reads base64 master keys separated by commas or white space, the current one first.
func ParseMasterKeys(text string) ([]MasterKey, error) {
	var masters []MasterKey
	for _, field := range strings.FieldsFunc(
		text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' },
	) {
		raw, err := base64.StdEncoding.DecodeString(field)
		if err != nil || len(raw) != masterKeySize {
			return nil, fmt.Errorf(
				"a master key must be %d bytes in base64, such as `openssl rand -base64 32` prints", masterKeySize,
			)
		}
		masters = append(masters, MasterKey(raw))
	}
	if len(masters) == 0 {
		return nil, errors.New("no master key found")
	}
	return masters, nil
}

// ReadFile reads the master keys in a key file. A file that others may read is refused.
func ReadFile(path string) ([]MasterKey, error) {
	if err := CheckPrivate(path); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var keys strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			keys.WriteString(line)
		}
	}
	masters, err := ParseMasterKeys(keys.String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return masters, nil
}

// CheckPrivate refuses a file that others than its owner may read or write.
func CheckPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s can be read by other users of this machine: run `chmod 600 %s`", path, path)
	}
	return nil
}

// WriteFile replaces the key file at path, durably and in one step, with mode 0600.
func WriteFile(path string, masters []MasterKey) error {
	var text strings.Builder
	text.WriteString(fileHeader)
	for _, master := range masters {
		text.WriteString(base64.StdEncoding.EncodeToString(master[:]) + "\n")
	}
	return WritePrivate(path, []byte(text.String()))
}

// WritePrivate replaces the file at path with content, durably and in one step, readable by its owner alone.
func WritePrivate(path string, content []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // a no-op once renamed
	defer temporary.Close()
	if _, err := temporary.Write(content); err != nil {
		return err
	}
	if err := temporary.Sync(); err != nil {
		return err
	}
	if err := temporary.Close(); err != nil {
		return err
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
