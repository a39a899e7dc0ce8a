package app

import (
	"runtime"
	"runtime/debug"
)

// linked is the version that a release was given: go build -ldflags "-X .../app.linked=1.2.3".
var linked string //nolint:gochecknoglobals // written by the linker alone

// Version is the release's, or the module's version, or the commit that it was built from.
func Version() string {
	if linked != "" {
		return linked
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	version := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 && (version == "" || version == "(devel)") {
			version = s.Value[:12]
		}
	}
	if version == "" {
		return "devel"
	}
	return version
}

func goVersion() string { return runtime.Version() }
