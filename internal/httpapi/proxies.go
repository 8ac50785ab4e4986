package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Proxies are those whose word is believed about who their clients are. The zero value believes nobody.
type Proxies struct {
	networks []netip.Prefix
	unix     bool
}

// throughUnix stands for everybody who connects through a Unix socket.
const throughUnix = "unix"

// ParseProxies returns the proxies that a list of networks, addresses and throughUnix names.
func ParseProxies(list []string) (Proxies, error) {
	var p Proxies
	for _, text := range list {
		if text == throughUnix {
			p.unix = true
			continue
		}
		network, err := netip.ParsePrefix(text)
		if err != nil {
			if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
				network = netip.PrefixFrom(address, address.BitLen())
			}
		}
		if !network.IsValid() {
			return Proxies{}, fmt.Errorf(
				"%q is neither a network, such as 10.0.0.0/8, nor an address, nor %q", text, throughUnix,
			)
		}
		if network.Addr().Is4In6() { // as clients' addresses are compared
			if network.Bits() < 96 {
				return Proxies{}, fmt.Errorf("%q is a part of the IPv4 addresses and of others: write it as an IPv4 network", text)
			}
			network = netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96)
		}
		p.networks = append(p.networks, network.Masked())
	}
	return p, nil
}

func (p Proxies) trust(address netip.Addr) bool {
	for _, network := range p.networks {
		if network.Contains(address) {
			return true
		}
	}
	return false
}

// client is who sent a request, as far as that can be believed.
type client struct {
	// address is invalid for who came through a Unix socket. Its port is 0 where only the address is known.
	address netip.AddrPort
	secure  bool
}

// String returns the client as the log has it.
func (c client) String() string {
	switch {
	case !c.address.IsValid():
		return throughUnix
	case c.address.Port() == 0:
		return c.address.Addr().String()
	}
	return c.address.String()
}

// ClientOf returns the address of the client that sent a request, and whether it speaks TLS, as the log tells them.
func (a *API) ClientOf(r *http.Request) (remote string, secure bool) {
	from := a.config.TrustedProxies.clientOf(r)
	return from.String(), from.secure
}

// clientOf returns who sent a request. The connection says so, unless it is a trusted proxy's: then the headers do, and
// of the addresses in them the last that is not a trusted proxy's. What stands before that anybody may have written.
// Where the headers make no sense, it is the proxy that handed them on.
func (p Proxies) clientOf(r *http.Request) client {
	direct := client{address: parsePeer(r.RemoteAddr), secure: r.TLS != nil}
	if !p.trusts(direct.address) {
		return direct
	}
	forwarded, forwardedFor := r.Header["Forwarded"], r.Header["X-Forwarded-For"]
	standard, errStandard := p.fromForwarded(forwarded, direct)
	usual := p.fromForwardedFor(forwardedFor, r.Header["X-Forwarded-Proto"], direct)
	switch {
	case len(forwarded) == 0:
		return usual
	case errStandard != nil:
		return direct
	case len(forwardedFor) == 0:
		return standard
	case standard.address.Addr() != usual.address.Addr():
		// A proxy that writes one of the two hands on the other as the client sent it, and which is not known.
		return direct
	}
	return standard
}

func (p Proxies) trusts(peer netip.AddrPort) bool {
	if !peer.IsValid() {
		return p.unix
	}
	return p.trust(peer.Addr())
}

// parsePeer returns the address of a connection, which is invalid for a Unix socket.
func parsePeer(text string) netip.AddrPort {
	peer, err := netip.ParseAddrPort(text)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(plainAddress(peer.Addr()), peer.Port())
}

// plainAddress returns an address in the one form that it is compared in.
func plainAddress(address netip.Addr) netip.Addr { return address.Unmap().WithZone("") }

// fromForwardedFor reads X-Forwarded-For from its end, and of X-Forwarded-Proto what stands at the same place. One
// scheme for all is the usual case.
func (p Proxies) fromForwardedFor(addresses, schemes []string, direct client) client {
	hop, place := direct, 0
	list := strings.Join(addresses, ",")
	for rest, more := list, list != ""; more; place++ {
		var node string
		rest, node, more = cutLast(rest)
		address, ok := parseNode(node)
		if !ok {
			break
		}
		hop.address = address
		if !p.trust(address.Addr()) {
			place++
			break
		}
	}
	scheme, ok := schemeAt(strings.Join(schemes, ","), place)
	if ok {
		hop.secure = scheme
	}
	return hop
}

// cutLast returns a list of a header without its last item, that item, and whether there are others.
func cutLast(list string) (rest, last string, more bool) {
	i := strings.LastIndexByte(list, ',')
	if i < 0 {
		return "", strings.TrimSpace(list), false
	}
	return list[:i], strings.TrimSpace(list[i+1:]), true
}

// schemeAt returns whether the scheme is https that stands at a place of a list, counted from its end from 1 on; of a
// shorter list, its first. ok says that there is a scheme.
func schemeAt(list string, place int) (secure, ok bool) {
	var scheme string
	for more := list != ""; more; place-- {
		list, scheme, more = cutLast(list)
		if place <= 1 {
			break
		}
	}
	return parseScheme(scheme)
}

func parseScheme(text string) (secure, ok bool) {
	switch strings.ToLower(text) {
	case "https", "wss":
		return true, true
	case "http", "ws":
		return false, true
	}
	return false, false
}

// parseNode returns an address with or without a port, as proxies write it.
func parseNode(text string) (netip.AddrPort, bool) {
	if node, err := netip.ParseAddrPort(text); err == nil {
		return netip.AddrPortFrom(plainAddress(node.Addr()), node.Port()), true
	}
	inner, bracketed := strings.CutPrefix(text, "[")
	if bracketed {
		if inner, bracketed = strings.CutSuffix(inner, "]"); !bracketed {
			return netip.AddrPort{}, false
		}
	}
	address, err := netip.ParseAddr(inner)
	if err != nil || bracketed && address.Is4() {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(plainAddress(address), 0), true
}

// fromForwarded reads Forwarded (RFC 7239) from its end. It fails on what cannot be read.
func (p Proxies) fromForwarded(lines []string, direct client) (client, error) {
	elements, err := parseForwarded(strings.Join(lines, ","))
	if err != nil {
		return direct, err
	}
	hop := direct
	for _, element := range slices.Backward(elements) {
		if secure, ok := parseScheme(element["proto"]); ok {
			hop.secure = secure
		}
		address, ok := parseNode(element["for"])
		if !ok { // "unknown", or a name that hides the address
			break
		}
		hop.address = address
		if !p.trust(address.Addr()) {
			break
		}
	}
	return hop, nil
}

var errForwarded = errors.New("the Forwarded header cannot be read")

// parseForwarded returns the parameters of each element of a Forwarded header, with their names in lower case.
func parseForwarded(text string) (elements []map[string]string, err error) {
	element := map[string]string{}
	for rest := text; ; {
		rest = strings.TrimLeft(rest, " \t")
		if rest != "" && rest[0] != ';' && rest[0] != ',' {
			name, after, found := strings.Cut(rest, "=")
			if !found || strings.ContainsAny(name, " \t,;\"") {
				return nil, errForwarded
			}
			var value string
			if value, rest, err = forwardedValue(after); err != nil {
				return nil, err
			}
			name = strings.ToLower(name)
			if _, twice := element[name]; twice {
				return nil, errForwarded
			}
			element[name] = value
			rest = strings.TrimLeft(rest, " \t")
		}
		if rest == "" {
			return append(elements, element), nil
		}
		switch rest[0] {
		case ';':
		case ',':
			elements, element = append(elements, element), map[string]string{}
		default:
			return nil, errForwarded
		}
		rest = rest[1:]
	}
}

// forwardedValue reads a token or a quoted string, and returns what follows it.
func forwardedValue(text string) (value, rest string, err error) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexAny(text, " \t,;")
		if end < 0 {
			end = len(text)
		}
		return text[:end], text[end:], nil
	}
	var unquoted strings.Builder
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return unquoted.String(), text[i+1:], nil
		case '\\':
			if i++; i == len(text) {
				return "", "", errForwarded
			}
		}
		unquoted.WriteByte(text[i])
	}
	return "", "", errForwarded
}
