package rstore

import "github.com/idemproxy/idemproxy/idem"

// Name is the record's name in Redis.
func (s *Store) Name(k idem.Key) string { return s.name(k.ID()) }

// ResponseName is that of the response which the record may outlive.
func (s *Store) ResponseName(k idem.Key) string {
	_, response := s.names(k.ID())
	return response
}

// SlotOf is a name's slot in a Cluster.
func SlotOf(name string) uint16 { return slotOf(name) }
