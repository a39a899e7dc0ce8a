package config

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/pflag"
)

// days is a duration that may be written with days before all else: 7d, 1d12h.
type days time.Duration

// Duration is the value of a flag that takes what a setting takes: 30s, 24h or 7d.
func Duration(d *time.Duration) pflag.Value { return (*days)(d) }

// withDays are a number of days, and the rest.
func withDays() *regexp.Regexp { return regexp.MustCompile(`^(\d{1,5})d(.*)$`) }

// parseDuration is time.ParseDuration, with days of 24 hours.
func parseDuration(text string) (time.Duration, error) {
	m := withDays().FindStringSubmatch(text)
	if m == nil {
		return time.ParseDuration(text) //nolint:wrapcheck // the caller says what for
	}
	n, _ := strconv.Atoi(m[1]) // digits
	whole := time.Duration(n) * 24 * time.Hour
	if m[2] == "" {
		return whole, nil
	}
	rest, err := time.ParseDuration(m[2])
	if err != nil || rest < 0 {
		return 0, fmt.Errorf("%q is not a time", text)
	}
	return whole + rest, nil
}

// String implements pflag.Value.
func (d *days) String() string { return time.Duration(*d).String() }

// Set implements pflag.Value.
func (d *days) Set(text string) error {
	n, err := parseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a duration, such as 500ms, 30s, 24h or 7d", text)
	}
	*d = days(n)
	return nil
}

// Type implements pflag.Value.
func (*days) Type() string { return "duration" }

var _ pflag.Value = (*days)(nil)
