package app

// LookAtCertificates does now what happens every few seconds.
func (a *App) LookAtCertificates() { a.certificates.look() }
