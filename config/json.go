package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/goccy/go-yaml"
)

// notSettings are flags of commands beside those of settings.
func notSettings() []string { return []string{"config", "help", "json"} }

// PrintJSON writes what Print does as one JSON object, without meanings and origins.
func (c *Config) PrintJSON(w io.Writer) error {
	var text bytes.Buffer
	if err := c.Print(&text, c.Flags(), nil); err != nil {
		return err
	}
	var settings map[string]any
	if err := yaml.Unmarshal(text.Bytes(), &settings); err != nil {
		return fmt.Errorf("printing the configuration: %w", err)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(settings); err != nil {
		return fmt.Errorf("printing the configuration: %w", err)
	}
	return nil
}

// Section is a part of the settings, for who reads a list of them.
type Section struct {
	Title string
	// Flags are the names of those in it.
	Flags []string
}

// Sections are all settings by what they are about.
func Sections() []Section {
	var all []Section
	add := func(title string, lines []settingAtLarge) {
		s := Section{Title: title}
		for _, l := range lines {
			s.Flags = append(s.Flags, l.about().name)
		}
		all = append(all, s)
	}
	add("Listening", listening())
	add("Backends (an upstream may have its own)", settingsOfUpstreams())
	add("Store and admin listener", slices.Concat(storing(), ofStores(), ofPostgres()))
	add("Keys and retries (a route may have its own)", settingsOfRules())
	add("Clients and limits", slices.Concat(bounding(), ofClients()))
	add("What comes with requests", ofRequests())
	add("The process", running())
	return all
}
