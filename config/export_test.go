package config

// Presets are the settings of each preset.
func Presets() map[string]map[string]string {
	all := map[string]map[string]string{}
	for name, values := range presets() {
		all[name] = map[string]string{}
		for _, v := range values {
			all[name][v.setting] = v.value
		}
	}
	return all
}
