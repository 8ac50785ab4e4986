package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// wants says what the value of an option must be, by the name that pflag has for its type.
func wants(flag *pflag.Flag) string {
	switch flag.Value.Type() {
	case "int", "int64":
		return "a whole number"
	case "duration":
		return "a time with a unit, such as 500ms, 30s or 1h30m"
	case "bool":
		return "true or false"
	case modeType:
		return "permissions in octal digits, such as 0660"
	default:
		return "a " + flag.Value.Type()
	}
}

// inWords returns an error of the command line so that it says what would be right, in the place of what a parser says.
func inWords(err error) error {
	if wrong, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		flag := wrong.GetFlag()
		return fmt.Errorf("invalid argument %q for --%s: it must be %s", wrong.GetValue(), flag.Name, wants(flag))
	}
	return err
}

// nearest returns the known name that a misspelled one is most like, and the editDistance between them.
func nearest(name string, known []string) (best string, least int) {
	least = -1
	for _, candidate := range known {
		if distance := editDistance(name, candidate); least < 0 || distance < least {
			best, least = candidate, distance
		}
	}
	return best, least
}

// editDistance returns how many letters are to be added, taken away, changed, or swapped with their neighbour, to make
// one word of another.
func editDistance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// otherVariables are those that are no option of a server: of the commands that call one.
var otherVariables = []string{
	"ROLLCALL_URL", "ROLLCALL_APP_ID", "ROLLCALL_API_KEY", "ROLLCALL_FROM_API_KEY", "ROLLCALL_MANAGEMENT_KEY",
	"ROLLCALL_MANAGEMENT_SECRET",
}

// unknownVariable is a variable that looks like a setting and is none.
type unknownVariable struct {
	name string
	// nearest is a variable that may be meant; empty when none is near.
	nearest string
}

func (v unknownVariable) String() string {
	told := v.name + " is no setting, and does nothing"
	if v.nearest != "" {
		told += "; the nearest is " + v.nearest
	}
	return told
}

// checkEnvironment looks for variables that would be settings and are none. One that is nearly the name of a setting is
// refused: what it was meant to set is not set. Others may be somebody else's, as Kubernetes makes some for a service
// of this name: they are returned, to be told.
func checkEnvironment(environment []string, flags *pflag.FlagSet) (unknown []unknownVariable, err error) {
	known := slices.Clone(otherVariables)
	flags.VisitAll(func(flag *pflag.Flag) { known = append(known, envName(flag.Name)) })
	for _, option := range secretOptions {
		known = append(known, envName(option)+"_FILE")
	}
	for _, variable := range environment {
		name, value, _ := strings.Cut(variable, "=")
		rest, ours := strings.CutPrefix(name, envPrefix)
		if !ours || value == "" || slices.Contains(known, name) {
			continue
		}
		var short []string
		for _, candidate := range known {
			short = append(short, strings.TrimPrefix(candidate, envPrefix))
		}
		best, distance := nearest(rest, short)
		if distance <= max(1, len(rest)/5) {
			return nil, fmt.Errorf("there is no variable %s; is %s%s meant? See `rollcall config`", name, envPrefix, best)
		}
		told := unknownVariable{name: name}
		if distance <= len(rest)/3 {
			told.nearest = envPrefix + best
		}
		unknown = append(unknown, told)
	}
	slices.SortFunc(unknown, func(a, b unknownVariable) int { return strings.Compare(a.name, b.name) })
	return unknown, nil
}
