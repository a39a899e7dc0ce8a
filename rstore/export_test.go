package rstore

import "github.com/idemproxy/idemproxy/idem"

// Name is the record's name in Redis.
func (s *Store) Name(k idem.Key) string { return s.name(k.ID()) }
