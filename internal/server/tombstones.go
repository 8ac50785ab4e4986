package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/rollcall/rollcall/internal/directory"
)

// tombstoneLog is a file beside the database that outlives it: when an older backup of the database is put back, the
// permanent deletions since then are still here and are done again.
type tombstoneLog struct {
	path string
	mu   sync.Mutex
}

type tombstoneLine struct {
	App  string `json:"app"`
	Hash string `json:"hash"`
	At   int64  `json:"at"`
}

// append adds tombstones durably.
func (l *tombstoneLog) append(tombstones ...directory.Tombstone) error {
	if len(tombstones) == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("write tombstones: %w", err)
	}
	if err := endLine(file); err != nil {
		return errors.Join(fmt.Errorf("write tombstones: %w", err), file.Close())
	}
	encoder := json.NewEncoder(file)
	for _, t := range tombstones {
		if err := encoder.Encode(tombstoneLine{App: string(t.App), Hash: t.Hash, At: t.At}); err != nil {
			return errors.Join(fmt.Errorf("write tombstones: %w", err), file.Close())
		}
	}
	return errors.Join(file.Sync(), file.Close())
}

// endLine ends a line that a crash has cut off, so that what follows can be read.
func endLine(file *os.File) error {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := file.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = file.WriteString("\n")
	return err
}

func (l *tombstoneLog) read() ([]directory.Tombstone, error) {
	file, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read tombstones: %w", err)
	}
	defer file.Close()
	var tombstones []directory.Tombstone
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var line tombstoneLine
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue // cut off by a crash: it is in the database then
		}
		tombstones = append(tombstones, directory.Tombstone{App: directory.AppID(line.App), Hash: line.Hash, At: line.At})
	}
	return tombstones, lines.Err()
}

// reconcile erases again whom a restored database has brought back, and adds to the file what only the database
// knows. It returns how many users it erased.
func (l *tombstoneLog) reconcile(ctx context.Context, d *directory.Directory) (int, error) {
	known, err := l.read()
	if err != nil {
		return 0, err
	}
	erased, err := d.ApplyTombstones(ctx, known)
	if err != nil {
		return erased, err
	}
	stored, err := d.Tombstones(ctx)
	if err != nil {
		return erased, err
	}
	have := map[tombstoneLine]bool{}
	for _, t := range known {
		have[tombstoneLine{string(t.App), t.Hash, t.At}] = true
	}
	var missing []directory.Tombstone
	for _, t := range stored {
		if !have[tombstoneLine{string(t.App), t.Hash, t.At}] {
			missing = append(missing, t)
		}
	}
	return erased, l.append(missing...)
}
