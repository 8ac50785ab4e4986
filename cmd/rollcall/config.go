package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rollcall/rollcall/internal/server"
)

// settings are the options of a server as they come from flags, environment and file.
type settings struct {
	config     server.Config
	configFile string
	logLevel   string
	logFormat  string
	flags      *pflag.FlagSet
	sources    map[string]string
	unknown    []unknownVariable
}

const envPrefix = "ROLLCALL_"

// secretOptions are never shown, and can also come from a file named by ROLLCALL_…_FILE.
var secretOptions = []string{"database", "database-direct", "master-key", "to"}

// registerShowing adds the options to a command that has none yet, and shows in its help only those that matter to it.
func (s *settings) registerShowing(cmd *cobra.Command, shown ...string) {
	s.register(cmd.Flags())
	cmd.Flags().VisitAll(func(flag *pflag.Flag) { flag.Hidden = !slices.Contains(shown, flag.Name) })
	cmd.Long = cmd.Long + "\n\nEvery option of serve is taken; \"rollcall config\" lists them."
}

// register adds the options to a command. Each is a flag, an environment variable ROLLCALL_… and a key of the
// configuration file; a flag wins over the environment, and the environment over the file.
func (s *settings) register(flags *pflag.FlagSet) {
	s.flags = flags
	c := &s.config
	*c = c.OrDefault()
	flags.StringVar(&c.DataDir, "data", "./data", "data directory: database, master key, credentials.json, certificate")
	flags.StringVar(
		&c.HTTP, "http", "127.0.0.1:8080", "address for HTTP: host:port, unix:PATH or systemd; empty turns it off",
	)
	flags.StringVar(&c.HTTPS, "https", "127.0.0.1:8443", "address for HTTPS, as for --http; empty turns it off")
	flags.StringVar(&c.Debug, "debug", "", "private address for pprof; empty turns it off")
	flags.Var((*modeValue)(&c.SocketMode), "socket-mode", "permissions of Unix sockets")
	flags.Var(
		&listValue{list: &c.TrustedProxies}, "trusted-proxies",
		"networks and addresses of the proxies that are believed about their clients, and unix for Unix sockets",
	)
	flags.StringVar(&c.Database, "database", "", "postgres:// URL; empty means SQLite in the data directory")
	flags.StringVar(
		&c.DatabaseDirect, "database-direct", "",
		"postgres:// URL of the same database without the pooler that --database leads through; empty for none",
	)
	flags.DurationVar(
		&c.DatabaseWait, "database-wait", 0,
		"how long a start waits for a PostgreSQL that does not answer; 0 means not at all",
	)
	flags.StringVar(
		&c.MasterKey, "master-key", "", "master keys in base64, the current one first; empty means DATA/master.key",
	)
	flags.StringVar(&c.TLSCert, "tls-cert", "", "certificate file; empty means a self-signed one in the data directory")
	flags.StringVar(&c.TLSKey, "tls-key", "", "key file of the certificate")
	flags.Var(
		&listValue{list: &c.ACMEDomains}, "acme-domain",
		"host names to get certificates for from Let's Encrypt, whose terms you accept with that",
	)
	flags.StringVar(&c.ACMEEmail, "acme-email", "", "where the authority may write to")
	flags.StringVar(&c.ACMEDirectory, "acme-directory", "", "directory URL of another authority than Let's Encrypt")
	flags.StringVar(
		&c.PublicHost, "public-host", "", "host[:port] that clients are told to use; empty means the one they called",
	)
	flags.Int64Var(&c.BodyLimit, "body-limit", c.BodyLimit, "largest request body in bytes")
	flags.DurationVar(&c.HeaderTimeout, "header-timeout", c.HeaderTimeout, "bound on reading a request's headers")
	flags.DurationVar(&c.RequestTimeout, "request-timeout", c.RequestTimeout, "bound on a request from arrival to answer")
	flags.DurationVar(&c.IdleTimeout, "idle-timeout", c.IdleTimeout, "how long a connection may wait for its next request")
	flags.DurationVar(
		&c.ShutdownTimeout, "shutdown-timeout", c.ShutdownTimeout, "how long stopping waits for requests in flight",
	)
	flags.IntVar(
		&c.RateLimits.Core, "rate-core", c.RateLimits.Core,
		"logins, creations and deletions per API key and minute; -1 means no limit",
	)
	flags.IntVar(
		&c.RateLimits.Standard, "rate-standard", c.RateLimits.Standard,
		"other calls per API key and minute; -1 means no limit",
	)
	flags.IntVar(
		&c.RateLimits.Token, "rate-token", c.RateLimits.Token, "calls per auth token and minute; -1 means no limit",
	)
	flags.IntVar(
		&c.RateLimits.Import, "rate-import", c.RateLimits.Import,
		"calls of data_import per API key and minute; -1 means no limit",
	)
	flags.IntVar(&c.RateLimits.WrongCredentials, "rate-wrong-credentials", c.RateLimits.WrongCredentials,
		"calls with wrong keys, tokens or app ids per client address and minute; -1 means no limit")
	flags.DurationVar(&c.Grace, "grace", c.Grace, "how long a device may be away whose connection broke")
	flags.DurationVar(
		&c.ReturnWithin, "return-within", c.ReturnWithin, "how long clients may take to come back after a restart",
	)
	flags.DurationVar(&c.AuthTimeout, "auth-timeout", c.AuthTimeout, "how long a socket may take to authenticate")
	flags.IntVar(
		&c.MaxWaiting, "max-waiting", c.MaxWaiting, "frames that may wait for a socket's client that does not read",
	)
	flags.IntVar(&c.SessionsPerUser, "sessions-per-user", c.SessionsPerUser, "sockets of a user")
	flags.IntVar(
		&c.WatchedPerUser, "watched-per-user", c.WatchedPerUser, "users that the sockets of one user watch by their uids",
	)
	flags.IntVar(
		&c.WatchedPerApp, "watched-per-app", c.WatchedPerApp, "users that all sockets of an app watch by their uids",
	)
	registerLimits(flags, &c.Limits)
	flags.StringVar(&s.logLevel, "log-level", "info", "least level to log: debug, info, warn, error")
	flags.StringVar(&s.logFormat, "log-format", "auto", "json, text, or auto: text on a terminal")
	flags.StringVar(&s.configFile, "config", "", "YAML file with any of these options")
}

// listValue is an option that is a list, with commas between its items. A flag that is given again adds to it.
type listValue struct {
	list *[]string
	// replaces says that the next value takes the place of what is there.
	replaces bool
}

func (v *listValue) Type() string   { return "list" }
func (v *listValue) String() string { return strings.Join(*v.list, ",") }

// Set implements pflag.Value.
func (v *listValue) Set(text string) error {
	if v.replaces {
		*v.list = nil
	}
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			*v.list = append(*v.list, item)
		}
	}
	return nil
}

// modeType is what modeValue calls itself.
const modeType = "mode"

// modeValue is an option that is the permissions of a file.
type modeValue fs.FileMode

func (v *modeValue) Type() string   { return modeType }
func (v *modeValue) String() string { return fmt.Sprintf("%04o", uint32(*v)) }

// Set implements pflag.Value.
func (v *modeValue) Set(text string) error {
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil || mode > 0o777 || mode == 0 {
		return errors.New("not permissions")
	}
	*v = modeValue(mode)
	return nil
}

const limitPrefix = "limit-"

// registerLimits adds a flag for every field of the limits, named and explained by its tags.
func registerLimits(flags *pflag.FlagSet, limits any) {
	value := reflect.ValueOf(limits).Elem()
	for i := range value.NumField() {
		field := value.Type().Field(i)
		limit := value.Field(i).Addr().Interface().(*int) //nolint:forcetypeassert // every limit is an int
		flags.IntVar(limit, limitPrefix+kebab(field.Tag.Get("json")), *limit, field.Tag.Get("help"))
	}
}

// kebab turns camelCase into kebab-case.
func kebab(camel string) string {
	var out strings.Builder
	for _, r := range camel {
		if r >= 'A' && r <= 'Z' {
			out.WriteByte('-')
			r += 'a' - 'A'
		}
		out.WriteRune(r)
	}
	return out.String()
}

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// load fills in from the environment and the file what the flags do not say.
func (s *settings) load(getenv func(string) (string, bool)) error {
	s.sources = map[string]string{}
	var err error
	if s.unknown, err = checkEnvironment(os.Environ(), s.flags); err != nil {
		return usageError{err}
	}
	if !s.flags.Changed("config") {
		if path, ok := getenv(envName("config")); ok {
			s.configFile = path
		}
	}
	file, err := readConfigFile(s.configFile)
	if err != nil {
		return err
	}
	for name := range file {
		if s.flags.Lookup(name) == nil || name == "config" {
			return usageError{fmt.Errorf("%s: there is no option %s; see `rollcall config`", s.configFile, quotedOption(name))}
		}
	}
	var failure error
	s.flags.VisitAll(func(flag *pflag.Flag) {
		if failure == nil && flag.Name != "help" {
			failure = s.loadOption(flag, file, getenv)
		}
	})
	s.config = s.config.OrDefault() // a zero that was asked for
	return failure
}

// quotedOption repeats what stands in the place of an option's name, unless it may be an address with its password.
func quotedOption(name string) string {
	if strings.ContainsAny(name, ":@/") {
		return "such as one of its keys, which is not repeated"
	}
	return strconv.Quote(name)
}

// loadOption gives one option its value: the file's, over that the environment's, and over that the flag's. A value
// that makes no sense is refused also where another one wins.
func (s *settings) loadOption(flag *pflag.Flag, file map[string]string, getenv func(string) (string, bool)) error {
	given := flag.Value.String()
	s.sources[flag.Name] = "default"
	if list, ok := flag.Value.(*listValue); ok {
		list.replaces = true
	}
	set := func(source, value string) error {
		s.sources[flag.Name] = source
		if err := flag.Value.Set(value); err != nil {
			return usageError{fmt.Errorf("option %s from %s is %q; it must be %s", flag.Name, source, value, wants(flag))}
		}
		if strings.HasPrefix(flag.Name, limitPrefix) && strings.HasPrefix(value, "-") {
			return usageError{fmt.Errorf("option %s from %s: a limit cannot be %s", flag.Name, source, value)}
		}
		return nil
	}
	if value, ok := file[flag.Name]; ok {
		if err := set(s.configFile, value); err != nil {
			return err
		}
	}
	value, found, err := lookup(flag.Name, getenv)
	if err != nil {
		return err
	}
	if found {
		if err := set("environment", value); err != nil {
			return err
		}
	}
	if flag.Changed {
		return set("flag", given)
	}
	return nil
}

func lookup(option string, getenv func(string) (string, bool)) (value string, found bool, err error) {
	if value, found = getenv(envName(option)); found || !slices.Contains(secretOptions, option) {
		return value, found, nil
	}
	variable := envName(option) + "_FILE"
	path, found := getenv(variable)
	if !found {
		return "", false, nil
	}
	if path == "" {
		return "", false, usageError{fmt.Errorf(
			"%s is empty; it must name the file that holds the option %s", variable, option,
		)}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", false, fmt.Errorf("%s, which is to hold the option %s: %w", variable, option, err)
	}
	return strings.TrimSpace(string(text)), true, nil
}

func readConfigFile(path string) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	var raw map[string]any
	if err := yaml.Unmarshal(text, &raw); err != nil {
		why := yaml.FormatError(err, false, false) // without the lines around, which may hold a password
		return nil, usageError{fmt.Errorf("read %s: %s", path, why)}
	}
	values := map[string]string{}
	for name, value := range raw {
		items, isList := value.([]any)
		for i, item := range items {
			if i > 0 {
				values[name] += ","
			}
			values[name] += fmt.Sprint(item)
		}
		if !isList {
			values[name] = fmt.Sprint(value)
		}
	}
	return values, nil
}

// serverConfig returns the configuration of a server that logs to the given writer.
func (s *settings) serverConfig(log *asyncWriter) (server.Config, error) {
	config := s.config
	config.Version, config.Commit = version, commit()
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.logLevel)); err != nil {
		return config, usageError{fmt.Errorf("--log-level must be debug, info, warn or error, not %q", s.logLevel)}
	}
	format := s.logFormat
	if format == "auto" {
		format = "json"
		if isatty.IsTerminal(os.Stderr.Fd()) {
			format = "text"
		}
	}
	newHandler := func(out io.Writer) slog.Handler {
		options := &slog.HandlerOptions{Level: level}
		if format == "text" {
			return slog.NewTextHandler(out, options)
		}
		return slog.NewJSONHandler(out, options)
	}
	if format != "json" && format != "text" {
		return config, usageError{fmt.Errorf("--log-format must be json, text or auto, not %q", s.logFormat)}
	}
	log.notice = func(lost int, cause error) []byte { return lossNotice(newHandler, lost, cause) }
	config.Logger = slog.New(newHandler(log))
	return config, nil
}

// lossNotice is the record that stands in the log in the place of those that were lost.
func lossNotice(newHandler func(io.Writer) slog.Handler, lost int, cause error) []byte {
	if cause == nil {
		cause = errors.New("whoever reads the log does not keep up")
	}
	record := slog.NewRecord(time.Now(), slog.LevelWarn, "records of the log were lost here", 0)
	record.AddAttrs(slog.Int("records", lost), slog.Any("error", cause))
	var text bytes.Buffer
	_ = newHandler(&text).Handle(context.Background(), record) // a buffer takes everything
	return text.Bytes()
}

func newConfig() *cobra.Command {
	s := &settings{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show every option with its value in force and where it comes from",
		Long: "Shows what `rollcall serve` with the same flags, environment and file would run with. Every option is a\n" +
			"flag, an environment variable (--rate-core is ROLLCALL_RATE_CORE) and a key of the YAML file named by\n" +
			"--config. Secrets are not shown; they can also come from files: ROLLCALL_DATABASE_FILE,\n" +
			"ROLLCALL_DATABASE_DIRECT_FILE, ROLLCALL_MASTER_KEY_FILE.",
		Example: "  rollcall config\n  ROLLCALL_HTTP=:9000 rollcall config --json",
		Args:    noSettingsAsArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.load(os.LookupEnv); err != nil {
				return err
			}
			if err := s.config.Check(); err != nil {
				return usageError{err}
			}
			for _, told := range s.unknown {
				fmt.Fprintf(cmd.ErrOrStderr(), "rollcall: %s\n", told)
			}
			return s.print(cmd, asJSON)
		},
	}
	s.register(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (s *settings) print(cmd *cobra.Command, asJSON bool) error {
	type option struct {
		Name   string `json:"name"`
		Value  string `json:"value"`
		Source string `json:"source"`
		Help   string `json:"help"`
	}
	var options []option
	s.flags.VisitAll(func(flag *pflag.Flag) {
		if flag.Name == "json" || flag.Name == "help" {
			return
		}
		value := flag.Value.String()
		if slices.Contains(secretOptions, flag.Name) && value != "" {
			value = "(set)"
		}
		options = append(options, option{flag.Name, value, s.sources[flag.Name], flag.Usage})
	})
	if asJSON {
		return printJSON(cmd, options)
	}
	rows := [][]string{{"OPTION", "VALUE", "FROM", "MEANING"}}
	for _, o := range options {
		rows = append(rows, []string{o.Name, o.Value, o.Source, o.Help})
	}
	return printTable(cmd, rows)
}
