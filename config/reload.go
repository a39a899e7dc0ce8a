package config

// aboutOf is what is known of a setting at large; nothing of what is none.
func aboutOf(name string) about {
	for _, l := range settings() {
		if a := l.about(); a.name == name {
			return a
		}
	}
	return about{}
}

// Reloadable says whether a setting can change while the proxy runs.
func Reloadable(setting string) bool {
	return aboutOf(setting).live
}

// Careful says whether a change of a setting makes records be named, or requests be
// compared, in another way: retries of what was sent before may not meet their
// record, or be told that they are not the same.
func Careful(setting string) bool {
	return aboutOf(setting).careful
}

// Fixed lists the settings that differ in other, and cannot change while the
// proxy runs.
func (c *Config) Fixed(other *Config) (changed []string) {
	mine, theirs := *c, *other // binding flags writes
	return fixed(settings(), &mine, &theirs)
}

func fixed[S, R any](lines []setting[S, R], before, after *S) (changed []string) {
	was, is := flagsOf("", lines, before), flagsOf("", lines, after)
	for _, l := range lines {
		a := l.about()
		if !a.live && was.Lookup(a.name).Value.String() != is.Lookup(a.name).Value.String() {
			changed = append(changed, a.name)
		}
	}
	return changed
}
